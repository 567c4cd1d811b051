import { hash } from 'node:crypto'
import { ledgerError } from './errors.ts'

/** An Idempotency-Key as stored: the first 128 bits of SHA-256 of its text. */
export type IdempotencyKey = Buffer

/**
 * Reads the header Idempotency-Key: a structured-field string ("…", RFC 9651 section 3.3.3, as
 * draft-ietf-httpapi-idempotency-key-header asks) or the bare text. `"a"` and `a` are the same key.
 * @throws IDEMPOTENCY_KEY_MISSING (400), IDEMPOTENCY_KEY_INVALID (400)
 */
export function readIdempotencyKey(header: string | string[] | undefined): IdempotencyKey {
  if (header === undefined || header === '') throw ledgerError('IDEMPOTENCY_KEY_MISSING')
  if (Array.isArray(header)) throw invalid('was sent more than once')
  const text = header.startsWith('"') ? unquote(header) : header
  if (text.length === 0) throw invalid('is empty')
  if (text.length > 255) throw invalid(`has ${text.length} characters; the most is 255`)
  if (!/^[\x21-\x7e]+$/.test(text)) throw invalid('holds a space or a character outside visible ASCII')
  return hash('sha256', text, 'buffer').subarray(0, 16)
}

function unquote(header: string): string {
  const inner = /^"((?:[^"\\]|\\["\\])*)"$/.exec(header)?.[1]
  if (inner === undefined) throw invalid('opens a quote and does not close it well')
  return inner.replace(/\\(["\\])/g, '$1')
}

function invalid(problem: string) {
  return ledgerError('IDEMPOTENCY_KEY_INVALID', { problem })
}

/** The hash of a payload other than a spin's: 63 bits of SHA-256, enough to tell a repeat from a mistake. */
export function requestHash(payload: string): bigint {
  return hash('sha256', payload, 'buffer').readBigInt64BE(0) & 0x7fff_ffff_ffff_ffffn
}
