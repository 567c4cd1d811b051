/** What an epoch object `<prefix><12 digits>` holds, as JSON. Times are RFC 3339 by the holder's clock. */
export interface LeaseRecord {
  /** For people: host, pid, verb. */
  holder: string
  /** Random; tells two writers of one epoch apart where the store cannot. */
  token: string
  since: string
  renewedAt: string
  ttlMs: number
  released?: boolean
}

/** The newest epoch as somebody who wants the lease sees it. */
export interface Sighting {
  epoch: number
  /** Undefined when the object cannot be read as one. */
  record: LeaseRecord | undefined
  /** For how long, by our own monotonic clock, nothing about it has changed. */
  unchangedForMs: number
}

export type AcquireDecision =
  | { kind: 'take'; epoch: number }
  | { kind: 'wait'; holder: string; since: string; expiresInMs: number }

// Machines that keep time by NTP differ by far less; for others the watching below decides.
function skewMarginMs(ttlMs: number): number {
  return ttlMs / 2
}

/**
 * An epoch is over when it was released, when its time is over by the wall clock and a margin, or when we have watched
 * it for a whole ttl without a renewal: the last needs no agreement of clocks.
 */
export function decideAcquire(o: {
  newest: Sighting | undefined
  now: Date
  /** Ours; for a record that cannot be read. */
  ttlMs: number
}): AcquireDecision {
  if (!o.newest) return { kind: 'take', epoch: 1 }
  const { epoch, record, unchangedForMs } = o.newest
  const take = { kind: 'take', epoch: epoch + 1 } as const
  const ttlMs = record?.ttlMs ?? o.ttlMs
  if (record?.released || unchangedForMs >= ttlMs) return take
  const watched = ttlMs - unchangedForMs
  if (!record) return { kind: 'wait', holder: 'somebody', since: 'some time', expiresInMs: watched }
  const byWall = Date.parse(record.renewedAt) + ttlMs + skewMarginMs(ttlMs) - o.now.getTime()
  if (byWall < 0) return take
  // A renewal in our future says nothing about when it ends; then only watching does.
  const expiresInMs = byWall <= ttlMs + skewMarginMs(ttlMs) ? byWall : watched
  return { kind: 'wait', holder: record.holder, since: record.since, expiresInMs }
}

export type KeepDecision =
  | { kind: 'held'; expiresInMs: number }
  | { kind: 'lost'; reason: 'superseded' | 'expired' | 'overwritten' }

/** Whether the lease is still ours. Times are monotonic. */
export function decideKeep(o: {
  epoch: number
  ttlMs: number
  /** Of the newest epoch that is there; undefined when it was not looked for. */
  newestEpoch: number | undefined
  /** When the last renewal that succeeded was begun. */
  renewedAtMs: number
  nowMs: number
  /** Tokens, where the store cannot keep two writers of one epoch apart. */
  token?: { ours: string; found: string | undefined }
}): KeepDecision {
  if (o.newestEpoch !== undefined && o.newestEpoch !== o.epoch) return { kind: 'lost', reason: 'superseded' }
  if (o.token && o.token.ours !== o.token.found) return { kind: 'lost', reason: 'overwritten' }
  const expiresInMs = o.renewedAtMs + o.ttlMs - o.nowMs
  return expiresInMs > 0 ? { kind: 'held', expiresInMs } : { kind: 'lost', reason: 'expired' }
}

/** Whether somebody who announced himself so is still there; by wall clocks, in doubt yes. */
export function isLive(record: Pick<LeaseRecord, 'renewedAt' | 'ttlMs'>, now: Date): boolean {
  return Date.parse(record.renewedAt) + record.ttlMs + skewMarginMs(record.ttlMs) >= now.getTime()
}

const epochDigits = 12

export function epochName(epoch: number): string {
  return String(epoch).padStart(epochDigits, '0')
}

/** Undefined for a name that is no epoch. */
export function parseEpoch(name: string): number | undefined {
  return /^\d{12}$/.test(name) ? Number(name) : undefined
}

export function parseRecord(text: string): LeaseRecord | undefined {
  let value: Partial<LeaseRecord> | null
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const texts = [value?.holder, value?.token, value?.since, value?.renewedAt]
  if (!texts.every(text => typeof text === 'string') || Number.isNaN(Date.parse(value?.renewedAt ?? '')))
    return undefined
  return typeof value?.ttlMs === 'number' && value.ttlMs > 0 ? (value as LeaseRecord) : undefined
}
