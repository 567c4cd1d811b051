import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { bech32 } from '@scure/base'

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
  return bech32.encodeFromBytes(prefix, bytes)
}

/** Exactly 32 bytes of exactly this prefix, in lower case. */
function fromBech32(prefix: string, text: string): Buffer | undefined {
  const decoded = bech32.decodeUnsafe(text)
  const bytes = decoded && bech32.fromWordsUnsafe(decoded.words)
  if (text !== text.toLowerCase() || decoded?.prefix !== prefix || bytes?.length !== 32) return undefined
  return Buffer.from(bytes)
}
