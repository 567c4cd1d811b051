import { type Lsn, parseLsn } from '#lib/lsn.ts'
import type { BackupMarker } from '../model.ts'
import { isOnPath, type Stretch, stretchesOf } from '../restore/timelines.ts'

/** The history of a timeline that somebody may want back. */
export type Branch = readonly Stretch[]

/** By timeline that was branched off: its ancestors, oldest first, and where each was left. */
export type TimelineHistories = ReadonlyMap<number, readonly { timeline: number; end: Lsn }[]>

/** What tells how the timelines hang together. */
export interface TimelineView {
  /** By system identifier. */
  histories: ReadonlyMap<string, TimelineHistories>
  /** What the archive follows now; undefined when it is not known. */
  living: { system: string; timeline: number } | undefined
}

/**
 * The branches of one system that the window must be restored on: first the one that lives, then those that have
 * backups in the window.
 * @param backups of the system, newest first
 */
export function branchesToKeep(
  backups: readonly BackupMarker[],
  { histories, living }: TimelineView,
  isInWindow: (backup: BackupMarker) => boolean,
): Branch[] {
  const system = backups[0]?.database?.systemIdentifier ?? ''
  const timelines = [
    // Until its first backup is made, a restored database lives on those of its ancestors.
    ...(living?.system === system ? [living.timeline] : []),
    ...backups.filter((one, index) => index === 0 || isInWindow(one)).map(timelineOf),
  ]
  const ofSystem = histories.get(system)
  // Without a history nothing is known to lead to the timeline but what was made on it.
  return [...new Set(timelines)].map(timeline => {
    const parents = ofSystem?.get(timeline) ?? []
    return stretchesOf(
      timeline,
      parents.map(one => ({ timeline: one.timeline, switchLsn: one.end })),
    )
  })
}

export function isOnBranch(branch: Branch, backup: BackupMarker): boolean {
  const stop = parseLsn(backup.database?.stop ?? '')
  return stop !== undefined && isOnPath(branch, timelineOf(backup), stop)
}

function timelineOf({ database }: BackupMarker): number {
  return database?.stopTimeline ?? 1
}
