import Type, { type Static } from 'typebox'

const Time = Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' })

/** A time in which commits were acknowledged without a member that was asked for. */
const OutsideWindow = Type.Object(
  { member: Type.String(), since: Time, cause: Type.String({ maxLength: 500 }) },
  { additionalProperties: false },
)

const ClosedWindow = Type.Object(
  { ...OutsideWindow.properties, until: Time, seconds: Type.Number({ minimum: 0 }), end: Type.String() },
  { additionalProperties: false },
)

/** All of them counted, the last ones kept. */
export const OutsideRecord = Type.Object(
  {
    windows: Type.Integer({ minimum: 0 }),
    /** Of the closed ones. */
    totalSeconds: Type.Number({ minimum: 0 }),
    open: Type.Array(OutsideWindow, { maxItems: 16 }),
    recent: Type.Array(ClosedWindow, { maxItems: 50 }),
  },
  { additionalProperties: false },
)

export type OutsideRecord = Static<typeof OutsideRecord>

export const neverOutside: OutsideRecord = { windows: 0, totalSeconds: 0, open: [], recent: [] }

// About 10 kB of the record; older ones stay in the counts and in the log.
const keepRecent = 50

/**
 * The record after the members became `members`: a window opens for each that is asked for and not in, and closes when
 * it is in or no longer asked for. Durations are wall time and never negative.
 */
export function outsideAfter(
  before: OutsideRecord,
  now: { members: readonly string[]; wanted: readonly string[]; cause: string; at: Date },
): OutsideRecord {
  const { members, wanted, cause, at } = now
  const out = wanted.filter(member => !members.includes(member))
  const stay = before.open.filter(one => out.includes(one.member))
  const opened = out
    .filter(member => !stay.some(one => one.member === member))
    .map(member => ({ member, since: at.toISOString(), cause }))
  const closed = before.open
    .filter(one => !stay.includes(one))
    .map(one => ({ ...one, until: at.toISOString(), seconds: secondsFrom(one.since, at), end: cause }))
  return {
    windows: before.windows + opened.length,
    totalSeconds: round(before.totalSeconds + closed.reduce((sum, one) => sum + one.seconds, 0)),
    open: [...stay, ...opened],
    recent: [...before.recent, ...closed].slice(-keepRecent),
  }
}

export interface OutsideSummary {
  /** Since when at least one member is out. */
  since?: string
  windows: number
  /** Open ones included. */
  totalSeconds: number
}

export function summarise(record: OutsideRecord, at: Date): OutsideSummary {
  const [since] = record.open.map(one => one.since).sort()
  const open = record.open.reduce((sum, one) => sum + secondsFrom(one.since, at), 0)
  const totalSeconds = round(record.totalSeconds + open)
  return { ...(since === undefined ? {} : { since }), windows: record.windows, totalSeconds }
}

function secondsFrom(since: string, until: Date): number {
  return round(Math.max(0, until.getTime() - Date.parse(since)) / 1000)
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000
}
