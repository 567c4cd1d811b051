import { type Lsn, segmentStart } from '#lib/lsn.ts'

/** What is stored of one database's write-ahead log. */
export interface StoredLog {
  segmentBytes: number
  /** Starts of whole segments by timeline, ascending. */
  segments: ReadonlyMap<number, readonly Lsn[]>
  /** Ends of open segments that are stored in pieces: by timeline, then by start of the segment. */
  tails: ReadonlyMap<number, ReadonlyMap<Lsn, Lsn>>
  /** By timeline that has a history: its ancestors, oldest first, and where each ended. */
  parents: ReadonlyMap<number, readonly { timeline: number; end: Lsn }[]>
}

/** From where and up to where, at least, a backup needs the log. */
export interface LogNeed {
  timeline: number
  start: Lsn
  stop: Lsn
}

export interface Hole {
  timeline: number
  /** Whole segments: [from, to). */
  from: Lsn
  to: Lsn
}

export interface Reach {
  holes: Hole[]
  /** The newest timeline that the backup can be rolled forward to. */
  timeline: number
  /** How far the log goes there without a hole. */
  through: Lsn
}

/** Follows the log from a backup's beginning to its end on the newest timeline that descends from it. */
export function reachOf(need: LogNeed, log: StoredLog): Reach {
  const size = BigInt(log.segmentBytes)
  const holes: Hole[] = []
  let through: Lsn = need.start
  const steps = pathOf(need, log)
  for (const { timeline, from, until } of steps) {
    const first = segmentStart(from, log.segmentBytes)
    // The segment in which a timeline ends is stored again, whole, as the first one of the next timeline.
    const last = until === undefined ? undefined : segmentStart(until, log.segmentBytes)
    const stored = (log.segments.get(timeline) ?? []).filter(
      start => start >= first && (last === undefined || start < last),
    )
    const missing = holesIn(stored, first, last, size)
    holes.push(...missing.map(hole => ({ timeline, ...hole })))
    through = until ?? endOf(timeline, stored, missing, first, log)
  }
  const timeline = steps.at(-1)?.timeline ?? need.timeline
  if (holes.length === 0 && through < need.stop) holes.push({ timeline, from: through, to: need.stop })
  return { holes, timeline, through }
}

interface Step {
  timeline: number
  from: Lsn
  /** Where the timeline ends; undefined for the newest. */
  until: Lsn | undefined
}

function pathOf(need: LogNeed, log: StoredLog): Step[] {
  const descendants = [...log.parents]
    .filter(([, parents]) => parents.some(one => one.timeline === need.timeline && one.end >= need.stop))
    .map(([timeline]) => timeline)
  const newest = Math.max(need.timeline, ...descendants)
  const parents = log.parents.get(newest) ?? []
  const from = parents.findIndex(one => one.timeline === need.timeline)
  const steps: Step[] = []
  let start = need.start
  for (const { timeline, end } of from === -1 ? [] : parents.slice(from)) {
    steps.push({ timeline, from: start, until: end })
    start = end
  }
  return [...steps, { timeline: newest, from: start, until: undefined }]
}

function holesIn(
  stored: readonly Lsn[],
  first: Lsn,
  last: Lsn | undefined,
  size: bigint,
): { from: Lsn; to: Lsn }[] {
  const holes: { from: Lsn; to: Lsn }[] = []
  let expected = first
  for (const start of stored) {
    if (start > expected) holes.push({ from: expected, to: start })
    expected = start + size
  }
  if (last !== undefined && expected < last) holes.push({ from: expected, to: last })
  return holes
}

/** The end of the last segment before the first hole, and of the open segment after it. */
function endOf(
  timeline: number,
  stored: readonly Lsn[],
  holes: readonly { from: Lsn }[],
  first: Lsn,
  log: StoredLog,
): Lsn {
  const size = BigInt(log.segmentBytes)
  const whole = holes[0]?.from ?? (stored.length > 0 ? (stored.at(-1) as Lsn) + size : first)
  return holes.length > 0 ? whole : (log.tails.get(timeline)?.get(whole) ?? whole)
}
