import { hash } from 'node:crypto'

export type DetailValue = string | number | boolean | null | readonly DetailValue[] | Detail
export interface Detail {
  readonly [key: string]: DetailValue
}

/** Who did what to what. */
export interface AuditEvent {
  /** Such as `operator:3f9a1c04d27e`, `cli:ana`, `system`, `anonymous`. */
  actor: string
  /** Such as `token.revoked`: noun, then past participle. */
  action: string
  target: string
  detail: Detail
}

/** An event in the chain. */
export interface RecordedEvent extends AuditEvent {
  /** From 1, without a gap. */
  sequence: number
  /** RFC 3339, UTC, milliseconds. */
  recordedAt: string
  /** Hash of the event before; 64 zeros for the first. */
  previousHash: string
  /** SHA-256 (hex) over the canonical JSON of all fields above. */
  hash: string
}

export const firstPreviousHash = '0'.repeat(64)

export function hashEvent(event: Omit<RecordedEvent, 'hash'>): string {
  const { sequence, recordedAt, actor, action, target, detail, previousHash } = event
  return hash('sha256', canonicalJson({ sequence, recordedAt, actor, action, target, detail, previousHash }))
}

/** One text for one value (RFC 8785): sorted names, no spaces; so a copy that lost the order still hashes the same. */
export function canonicalJson(value: DetailValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  // The default order compares UTF-16 code units, as the RFC asks.
  const names = Object.keys(value).sort()
  return `{${names.map(name => `${JSON.stringify(name)}:${canonicalJson((value as Detail)[name] ?? null)}`).join(',')}}`
}

const longestText = 1_000
const longestDetail = 8_192
const deepestDetail = 6
const mostMembers = 100

/** What may stand in a journal for ever: bounded, storable by PostgreSQL, and without secrets. */
export function cleanEvent(event: AuditEvent): AuditEvent {
  const detail = cleanValue(event.detail, deepestDetail) as Detail
  const size = canonicalJson(detail).length
  return {
    actor: cleanText(event.actor),
    action: cleanText(event.action),
    target: cleanText(event.target),
    detail: size <= longestDetail ? detail : { leftOutCharacters: size },
  }
}

const secretName = /token|secret|password|passphrase|cookie|authorization|signature|seed|private|credential/i
// Our own tokens, wherever they stand in a text.
const tokenText = /my[a-z]_(?:[0-9a-f]{12}_)?[A-Za-z0-9_-]{43}/g
const redacted = '[redacted]'

function cleanValue(value: DetailValue, depth: number): DetailValue {
  if (typeof value === 'string') return cleanText(value)
  if (typeof value === 'number') return Number.isFinite(value) ? value : null
  if (typeof value !== 'object' || value === null) return value
  if (depth === 0) return '[nested too deep]'
  if (Array.isArray(value)) return value.slice(0, mostMembers).map(inner => cleanValue(inner, depth - 1))
  const members = Object.entries(value as Detail)
    .filter(([, inner]) => inner !== undefined)
    .slice(0, mostMembers)
    .map(([name, inner]) => [
      cleanText(name),
      secretName.test(name) ? redacted : cleanValue(inner, depth - 1),
    ])
  return Object.fromEntries(members)
}

/** jsonb takes neither NUL nor half of a surrogate pair, and one such event would hold up all after it. */
function cleanText(text: string): string {
  return text.replace(tokenText, redacted).slice(0, longestText).replaceAll('\u0000', '\ufffd').toWellFormed()
}
