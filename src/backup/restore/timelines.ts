import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { parseHistory, type TimelineSwitch } from '../archive/history.ts'

/** What of a timeline belongs to the history of another: [from, until). */
export interface Stretch {
  timeline: number
  /** Where it was begun: 0 for the first timeline of a cluster. */
  from: Lsn
  /** Where it was left; undefined for the last one. */
  until?: Lsn
}

/** The stretches of a timeline's history, oldest first, itself last. Empty when a needed history file is missing. */
export function pathTo(timeline: number, histories: ReadonlyMap<number, Buffer>): Stretch[] {
  const history = histories.get(timeline)
  // Only a timeline that was branched off has a file.
  if (history === undefined) return timeline === 1 ? [{ timeline: 1, from: 0n }] : []
  return stretchesOf(timeline, parseHistory(history))
}

/** The same from the ancestors themselves, oldest first. */
export function stretchesOf(timeline: number, switches: readonly TimelineSwitch[]): Stretch[] {
  const starts = [0n, ...switches.map(one => one.switchLsn)]
  const stretches: Stretch[] = switches.map((one, index) => ({
    timeline: one.timeline,
    from: starts[index] as Lsn,
    until: one.switchLsn,
  }))
  return [...stretches, { timeline, from: starts.at(-1) as Lsn }]
}

/** Whether the position, reached on `timeline`, belongs to the history that `path` tells. */
export function isOnPath(path: readonly Stretch[], timeline: number, lsn: Lsn): boolean {
  const stretch = path.find(one => one.timeline === timeline)
  return stretch !== undefined && lsn >= stretch.from && (stretch.until === undefined || lsn <= stretch.until)
}

/** Where `other` leaves the history that `path` tells; undefined when it tells the same. */
export function forkOf(path: readonly Stretch[], other: readonly Stretch[]): Lsn | undefined {
  for (const [index, stretch] of other.entries()) {
    const beside = path[index]
    if (beside?.timeline !== stretch.timeline) return stretch.from
    const { until } = beside
    if (until !== stretch.until)
      return until === undefined || (stretch.until ?? until) < until ? stretch.until : until
  }
  return undefined
}

/** Of a text that a program of ours wrote. */
export function lsnOf(text: string): Lsn {
  const lsn = parseLsn(text)
  if (lsn === undefined) throw new Error(`${text} is no LSN`)
  return lsn
}
