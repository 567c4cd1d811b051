import { hash, randomBytes, timingSafeEqual } from 'node:crypto'

// 256 random bits: nobody guesses one, so a plain SHA-256 of it needs no salt and no slow hash.
const secretBytes = 32
const secretPattern = '[A-Za-z0-9_-]{43}'

const playerToken = new RegExp(`^myp_${secretPattern}$`)

/** A player's session token. The prefix keeps it away from the operator store and lets leak scanners find it. */
export function newPlayerToken(): string {
  return `myp_${newSecret()}`
}

export function isPlayerToken(text: string): boolean {
  return playerToken.test(text)
}

/** The form in which a player token is stored and looked up: SHA-256 as 64 lowercase hex characters. */
export function hashToken(token: string): string {
  return hash('sha256', token)
}

/** myo_: an operator's token; mys_: the session that it was exchanged for. */
export type KeyedKind = 'myo' | 'mys'

const keyedTokens = {
  myo: new RegExp(`^myo_([0-9a-f]{12})_${secretPattern}$`),
  mys: new RegExp(`^mys_([0-9a-f]{12})_${secretPattern}$`),
}

/** A token that names its row: the id is public, so the secret is only ever compared, never searched for. */
export interface KeyedToken {
  id: string
  token: string
  hash: Uint8Array
}

export function newKeyedToken(kind: KeyedKind): KeyedToken {
  const id = randomBytes(6).toString('hex')
  const token = `${kind}_${id}_${newSecret()}`
  return { id, token, hash: hashBytes(token) }
}

/** The id inside a token of this kind; undefined when the text is none. */
export function keyOf(kind: KeyedKind, text: string): string | undefined {
  return keyedTokens[kind].exec(text)?.[1]
}

export function fitsHash(token: string, stored: Uint8Array): boolean {
  const given = hashBytes(token)
  return given.length === stored.length && timingSafeEqual(given, stored)
}

export function hashBytes(token: string): Uint8Array {
  return hash('sha256', token, 'buffer')
}

function newSecret(): string {
  return randomBytes(secretBytes).toString('base64url')
}
