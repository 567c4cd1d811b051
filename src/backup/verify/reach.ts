import { formatLsn, type Lsn, parseLsn, segmentName, segmentStart } from '#lib/lsn.ts'
import { layout } from '../layout.ts'
import type { BackupMarker, VerifyFault, VerifyReport } from '../model.ts'
import { type Hole, reachOf, type StoredLog } from './continuity.ts'

/** By system identifier. */
export type Logs = ReadonlyMap<string, StoredLog>

type WalThrough = VerifyReport['walThrough']

/** How far the log goes from the backups on, and what is missing on the way. */
export function checkReach(
  markers: readonly BackupMarker[],
  logs: Logs,
): { walThrough: WalThrough; faults: VerifyFault[] } {
  const faults = [...logs].flatMap(([system, log]) => missingHistories(system, log))
  const furthest = new Map<string, Lsn>()
  for (const { database } of markers) {
    if (!database) continue
    const { systemIdentifier: system } = database
    const log = logs.get(system)
    const [start, stop] = [parseLsn(database.start), parseLsn(database.stop)]
    if (!log || start === undefined || stop === undefined) continue
    const { holes, timeline, through } = reachOf({ timeline: database.timeline, start, stop }, log)
    faults.push(...holes.map(hole => missingLog(system, hole, log.segmentBytes)))
    const name = `${system} ${timeline}`
    furthest.set(name, max(furthest.get(name) ?? 0n, through))
  }
  const walThrough = [...furthest].map(([name, end]) => {
    const [systemIdentifier = '', timeline] = name.split(' ')
    return { systemIdentifier, timeline: Number(timeline), end: formatLsn(end) }
  })
  return { walThrough, faults }
}

/** Without its history nobody can tell from where a timeline goes on; only the first one has none. */
function missingHistories(system: string, log: StoredLog): VerifyFault[] {
  const timelines = [...new Set([...log.segments.keys(), ...log.tails.keys()])]
  const hasLog = (timeline: number) =>
    (log.segments.get(timeline)?.length ?? 0) + (log.tails.get(timeline)?.size ?? 0) > 0
  return timelines
    .filter(timeline => timeline !== 1 && hasLog(timeline) && !log.parents.has(timeline))
    .map(timeline => ({
      object: layout.history(system, timeline),
      problem: 'missing',
      reason: `there is WAL of timeline ${timeline}`,
    }))
}

function missingLog(system: string, hole: Hole, segmentBytes: number): VerifyFault {
  const first = segmentName(hole.timeline, hole.from, segmentBytes)
  const last = segmentName(hole.timeline, hole.to - 1n, segmentBytes)
  const reason = first === last ? 'the log has a hole here' : `the log has a hole from here to ${last}`
  return { object: layout.segment(system, first), problem: 'missing', reason }
}

/** The end of the log has nothing behind it that would show a hole; what was seen before does. */
export function shorterThan(o: {
  earlier: WalThrough
  now: WalThrough
  logs: Logs
  /** Who saw it: `the check of ... saw the log`. */
  who: string
}): VerifyFault[] {
  return o.earlier.flatMap(({ systemIdentifier, timeline, end }): VerifyFault[] => {
    const log = o.logs.get(systemIdentifier)
    const now = o.now.find(one => one.systemIdentifier === systemIdentifier && one.timeline === timeline)
    const [then, through] = [parseLsn(end), parseLsn(now?.end ?? '')]
    if (!log || then === undefined || through === undefined || through >= then) return []
    const segment = segmentName(timeline, through, log.segmentBytes)
    // An end inside a segment was known from pieces of it.
    const whole = then - segmentStart(through, log.segmentBytes) >= BigInt(log.segmentBytes)
    const object = whole ? layout.segment(systemIdentifier, segment) : layout.tails(systemIdentifier, segment)
    return [{ object, problem: 'missing', reason: `${o.who} up to ${end}, now it ends at ${now?.end}` }]
  })
}

function max(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b
}
