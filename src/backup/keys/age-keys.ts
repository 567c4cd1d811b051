import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'

// The texts of age keys are Bech32 (BIP 173) of 32 bytes (age specification, C2SP.org/age, "The X25519 recipient type").
// age-encryption makes them too, but only asynchronously, and its messages about a mistyped identity repeat it.

export interface AgeKeyPair {
  /** `AGE-SECRET-KEY-1...` */
  identity: string
  /** `age1...` */
  recipient: string
}

const identityPrefix = 'age-secret-key-'
const recipientPrefix = 'age'
const alphabet = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
// PKCS #8 of an X25519 key is this and the 32 bytes of the key; SubjectPublicKeyInfo ends with them (RFC 8410).
const pkcs8Prefix = Buffer.from('302e020100300506032b656e04220420', 'hex')

export function newAgeKeyPair(): AgeKeyPair {
  const { privateKey } = generateKeyPairSync('x25519')
  const bytes = privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(pkcs8Prefix.length)
  const identity = toBech32(identityPrefix, bytes).toUpperCase()
  return { identity, recipient: recipientOf(identity) as string }
}

/** The public half; undefined when the text is no X25519 identity. */
export function recipientOf(identity: string): string | undefined {
  if (identity !== identity.toUpperCase()) return undefined
  const secret = fromBech32(identityPrefix, identity.toLowerCase())
  if (!secret) return undefined
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, secret]), type: 'pkcs8', format: 'der' })
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' })
  return toBech32(recipientPrefix, spki.subarray(-32))
}

export function isRecipient(text: string): boolean {
  return fromBech32(recipientPrefix, text) !== undefined
}

/** Names a recipient in the repository: the first 16 hexadecimal characters of the SHA-256 of its text. */
export function fingerprintOf(recipient: string): string {
  return createHash('sha256').update(recipient).digest('hex').slice(0, 16)
}

function toBech32(prefix: string, bytes: Uint8Array): string {
  const data = regroup(bytes, 8, 5, true) as number[]
  const sum = checksum([...expand(prefix), ...data, 0, 0, 0, 0, 0, 0]) ^ 1
  const check = Array.from({ length: 6 }, (_, index) => (sum >>> (5 * (5 - index))) & 31)
  return `${prefix}1${[...data, ...check].map(value => alphabet[value]).join('')}`
}

/** Exactly 32 bytes of exactly this prefix, in lower case. */
function fromBech32(prefix: string, text: string): Buffer | undefined {
  if (!text.startsWith(`${prefix}1`) || text.length > 90) return undefined
  const values = [...text.slice(prefix.length + 1)].map(character => alphabet.indexOf(character))
  if (values.includes(-1) || checksum([...expand(prefix), ...values]) !== 1) return undefined
  const bytes = regroup(values.slice(0, -6), 5, 8, false)
  return bytes?.length === 32 ? Buffer.from(bytes) : undefined
}

function checksum(values: readonly number[]): number {
  const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3]
  let sum = 1
  for (const value of values) {
    const top = sum >>> 25
    sum = ((sum & 0x1ffffff) << 5) ^ value
    generators.forEach((generator, bit) => {
      if ((top >>> bit) & 1) sum ^= generator
    })
  }
  return sum
}

function expand(prefix: string): number[] {
  const codes = [...prefix].map(character => character.charCodeAt(0))
  return [...codes.map(code => code >>> 5), 0, ...codes.map(code => code & 31)]
}

/** Bits in groups of another size; undefined when what is left over is not padding. */
function regroup(values: Iterable<number>, from: number, to: number, pad: boolean): number[] | undefined {
  const groups: number[] = []
  let held = 0
  let bits = 0
  for (const value of values) {
    held = ((held << from) | value) & 0xfff
    for (bits += from; bits >= to; bits -= to) groups.push((held >>> (bits - to)) & ((1 << to) - 1))
  }
  const rest = (held << (to - bits)) & ((1 << to) - 1)
  if (pad && bits > 0) groups.push(rest)
  return !pad && (bits >= from || rest !== 0) ? undefined : groups
}
