import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { gameError } from './errors.ts'

/** A fresh server seed: 32 random bytes as 64 lowercase hex characters. */
export function newServerSeed(): string {
  return randomBytes(32).toString('hex')
}

/** Whether a player's seed may be used: no colon, so that `clientSeed:nonce` has one reading. */
export function isClientSeed(text: string): boolean {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text)
}

/** A fresh key for sealing server seeds, as its secret file holds it. */
export function newSeedKey(): string {
  return randomBytes(keyBytes).toString('hex')
}

const keyBytes = 32
const seedBytes = 32
const ivBytes = 12
const tagBytes = 16
const layoutVersion = 1

/**
 * Seals server seeds for rest with AES-256-GCM (NIST SP 800-38D, random 96-bit IV). Layout:
 * version byte | kid length | kid | iv 12 | ciphertext 32 | tag 16.
 * The context (the seed's hash) and the layout's head are authenticated, so a seed moved to another row will not open.
 */
export class SeedKeys {
  readonly currentKid: string
  // Private to the object: a logged or inspected SeedKeys shows no key.
  readonly #keys: ReadonlyMap<string, Uint8Array>

  /** @throws Failure GAME_SEED_KEYS_INVALID when a key is not 32 bytes or the current one is missing. */
  constructor({ currentKid, keys }: { currentKid: string; keys: ReadonlyMap<string, Uint8Array> }) {
    for (const [kid, key] of keys) {
      if (!/^[A-Za-z0-9_-]{1,64}$/.test(kid) || key.length !== keyBytes) {
        throw gameError('GAME_SEED_KEYS_INVALID', { kid, problem: 'malformed' })
      }
    }
    if (!keys.has(currentKid)) {
      throw gameError('GAME_SEED_KEYS_INVALID', { kid: currentKid, problem: 'missing' })
    }
    this.currentKid = currentKid
    this.#keys = new Map(keys)
  }

  /** Seals a seed of 64 hex characters under the current key. */
  seal(serverSeed: string, context: string): Buffer {
    const kid = Buffer.from(this.currentKid)
    const head = Buffer.concat([Buffer.from([layoutVersion, kid.length]), kid])
    const iv = randomBytes(ivBytes)
    const cipher = createCipheriv('aes-256-gcm', this.#key(this.currentKid), iv, { authTagLength: tagBytes })
    cipher.setAAD(Buffer.concat([head, Buffer.from(context)]))
    const sealed = Buffer.concat([cipher.update(serverSeed, 'hex'), cipher.final()])
    return Buffer.concat([head, iv, sealed, cipher.getAuthTag()])
  }

  /** @throws Failure GAME_SEED_UNREADABLE for an unknown key, another context, or any changed byte. */
  open(sealed: Uint8Array, context: string): string {
    try {
      return this.#open(Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength), context)
    } catch (cause) {
      throw gameError('GAME_SEED_UNREADABLE', {}, { cause })
    }
  }

  #open(sealed: Buffer, context: string): string {
    const headBytes = 2 + (sealed[1] ?? 0)
    if (sealed[0] !== layoutVersion) throw new Error('unknown layout of a sealed seed')
    if (sealed.length !== headBytes + ivBytes + seedBytes + tagBytes) throw new Error('wrong sealed length')
    const head = sealed.subarray(0, headBytes)
    const iv = sealed.subarray(headBytes, headBytes + ivBytes)
    const body = sealed.subarray(headBytes + ivBytes, -tagBytes)
    const key = this.#key(head.toString('latin1', 2))
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: tagBytes })
    decipher.setAAD(Buffer.concat([head, Buffer.from(context)]))
    decipher.setAuthTag(sealed.subarray(-tagBytes))
    return Buffer.concat([decipher.update(body), decipher.final()]).toString('hex')
  }

  #key(kid: string): Uint8Array {
    const key = this.#keys.get(kid)
    if (key === undefined) throw new Error('the key that sealed this seed is not here')
    return key
  }
}

/**
 * Seed keys from secrets of 64 hex characters each, as `read` gives them by kid (undefined when absent).
 * @throws Failure GAME_SEED_KEYS_INVALID naming the kid, never the key.
 */
export function loadSeedKeys(source: {
  currentKid: string
  kids: readonly string[]
  read: (kid: string) => string | undefined
}): SeedKeys {
  const keys = new Map<string, Uint8Array>()
  for (const kid of new Set([...source.kids, source.currentKid])) {
    const text = source.read(kid)?.trim()
    if (text === undefined) throw gameError('GAME_SEED_KEYS_INVALID', { kid, problem: 'missing' })
    if (!/^[0-9a-f]{64}$/.test(text)) throw gameError('GAME_SEED_KEYS_INVALID', { kid, problem: 'malformed' })
    keys.set(kid, Buffer.from(text, 'hex'))
  }
  return new SeedKeys({ currentKid: source.currentKid, keys })
}
