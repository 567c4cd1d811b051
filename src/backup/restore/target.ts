import { formatLsn, type Lsn, parseLsn } from '#lib/lsn.ts'
import { restoreError } from './errors.ts'

/** How far to replay. */
export type RestoreTarget =
  | { kind: 'latest' }
  | {
      kind: 'time'
      /** What was committed at or before it comes back. Whole milliseconds, rounded down. */
      at: Date
      /** For PostgreSQL: UTC, microseconds. */
      text: string
    }
  | {
      kind: 'lsn'
      /** Records that end at or before it come back. */
      lsn: Lsn
    }
  | { kind: 'name'; name: string }

export interface RestoreRequest {
  target: RestoreTarget
  /** The backup to begin with; without it the newest one before the target. */
  backupId?: string
  /** The timeline to follow; without it the newest one with the target on it, unless another may be meant. */
  timeline?: number
}

/** The options of the command line. */
export interface TargetOptions {
  latest?: boolean | undefined
  time?: string | undefined
  lsn?: string | undefined
  name?: string | undefined
  id?: string | undefined
  timeline?: number | undefined
}

/**
 * Reads a target; none given means latest. A time without an offset is one of `timezone` (IANA).
 * @throws RESTORE_TARGET_WRONG
 */
export function parseRequest(options: TargetOptions, timezone: string): RestoreRequest {
  const { latest, time, lsn, name, id, timeline } = options
  const given = [latest ? '--latest' : '', time && '--time', lsn && '--lsn', name && '--name'].filter(Boolean)
  if (given.length > 1) throw wrong(given.join(' and '), 'only one target can be reached')
  return {
    target: parseTarget({ time, lsn, name }, timezone),
    ...(id === undefined ? {} : { backupId: id }),
    ...(timeline === undefined ? {} : { timeline }),
  }
}

/** In words, for messages and reports. */
export function describeTarget(target: RestoreTarget): string {
  if (target.kind === 'latest') return 'latest'
  if (target.kind === 'time') return `time ${target.text.replace(' ', 'T').replace('+00', 'Z')}`
  if (target.kind === 'lsn') return `LSN ${formatLsn(target.lsn)}`
  return `restore point ${target.name}`
}

function parseTarget(given: Pick<TargetOptions, 'time' | 'lsn' | 'name'>, timezone: string): RestoreTarget {
  if (given.time !== undefined) return parseTime(given.time, timezone)
  if (given.name !== undefined) return { kind: 'name', name: given.name }
  if (given.lsn === undefined) return { kind: 'latest' }
  const lsn = parseLsn(given.lsn)
  if (lsn === undefined) throw wrong(given.lsn, 'an LSN looks like 0/5B000028')
  return { kind: 'lsn', lsn }
}

const timeText =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$/i

function parseTime(given: string, timezone: string): RestoreTarget {
  const parts = timeText.exec(given.trim())
  if (!parts) throw wrong(given, 'a time looks like 2026-11-24T14:30:00Z or 2026-11-24 14:30')
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1, 7).map(Number)
  const wallMs = Date.UTC(year, month - 1, day, hour || 0, minute || 0, second || 0)
  // Date.UTC takes the 31st of February for a day in March.
  const isReal =
    new Date(wallMs).getUTCDate() === day && (hour || 0) < 24 && Math.max(minute || 0, second || 0) < 60
  if (!isReal || month > 12) throw wrong(given, 'there is no such time')
  const utcMs = parts[8] ? wallMs - offsetMs(parts[8]) : toUtc(given, wallMs, timezone)
  const micros = (parts[7] ?? '').padEnd(6, '0')
  return {
    kind: 'time',
    at: new Date(utcMs + Math.floor(Number(micros) / 1000)),
    text: `${new Date(utcMs).toISOString().slice(0, 19).replace('T', ' ')}.${micros}+00`,
  }
}

/** `+05:30`, `-08`, `Z`. */
function offsetMs(text: string): number {
  if (text.toUpperCase() === 'Z') return 0
  const digits = text.slice(1).replace(':', '').padEnd(4, '0')
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2))
  return (text.startsWith('-') ? -minutes : minutes) * 60_000
}

/** In the hour that a change of clocks repeats or leaves out, a wall-clock time is not one moment. */
function toUtc(given: string, wallMs: number, timezone: string): number {
  const dayMs = 86_400_000
  const offsets = new Set([-dayMs, 0, dayMs].map(shift => zoneOffsetMs(wallMs + shift, timezone)))
  const moments = [...offsets].map(offset => wallMs - offset)
  const fitting = moments.filter(utcMs => zoneOffsetMs(utcMs, timezone) === wallMs - utcMs)
  const [only] = fitting
  if (only === undefined || fitting.length > 1) {
    const what = only === undefined ? 'does not exist' : 'comes twice'
    throw wrong(given, `that hour ${what} in ${timezone}; write the offset, as in ${given}+01:00`)
  }
  return only
}

/** What to add to UTC for the wall clock of the zone at that moment. */
function zoneOffsetMs(utcMs: number, timezone: string): number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: timezone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  })
  const parts = Object.fromEntries(format.formatToParts(utcMs).map(part => [part.type, Number(part.value)]))
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(utcMs / 1000) * 1000
}

function wrong(given: string, reason: string) {
  return restoreError('RESTORE_TARGET_WRONG', { given, reason })
}
