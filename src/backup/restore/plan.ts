import { formatLsn, type Lsn } from '#lib/lsn.ts'
import { backupError } from '../errors.ts'
import type { BackupMarker, DatabaseBackup, RestorePoint } from '../model.ts'
import { type Branch, branchesOff, signElsewhere, signsOf, unclear } from './branches.ts'
import { restoreError } from './errors.ts'
import { describeTarget, type RestoreRequest, type RestoreTarget } from './target.ts'
import { isOnPath, lsnOf, pathTo, type Stretch } from './timelines.ts'
import { gap, refuseHole, type WalRange, type WalStock, walkRange } from './wal-range.ts'

/** All that a choice depends on. */
export interface Catalogue {
  repository: string
  backups: readonly BackupMarker[]
  points: readonly RestorePoint[]
  /** By system identifier. */
  clusters: ReadonlyMap<string, Cluster>
}

export interface Cluster {
  histories: ReadonlyMap<number, Buffer>
  stock: WalStock
}

export interface RestorePlan {
  backup: DatabaseBackup
  target: RestoreTarget
  /** Where the target is, when that is known beforehand. */
  targetLsn?: Lsn
  /** recovery_target_timeline. */
  timeline: number
  path: Stretch[]
  /** What is there from the backup's start on; for a time it may go on beyond the target. */
  wal: WalRange
  /** What may be meant as well; none when the timeline was asked for. */
  branches: Branch[]
  /** The backup whose files (secrets, configuration) belong to it. */
  files?: BackupMarker
}

/**
 * Chooses the newest backup before the target and the log that leads there.
 * @throws BACKUP_NOT_FOUND, BACKUP_WAL_GAP, RESTORE_POINT_UNKNOWN, RESTORE_TARGET_UNREACHABLE, RESTORE_TIMELINE_NEEDED
 */
export function planRestore(catalogue: Catalogue, request: RestoreRequest, now: Date): RestorePlan {
  const goal = findGoal(catalogue, request, now)
  const backups = candidates(catalogue, request, goal)
  const timelines = timelinesNewestFirst(catalogue, request, goal, backups)
  for (const timeline of timelines) {
    const backup = newestOn(timeline.path, backups, goal)
    if (!backup || backup.database.systemIdentifier !== timeline.system) continue
    const isAsked = (request.timeline ?? goal.timeline) !== undefined
    const branches = isAsked ? [] : branchesBeside(catalogue, { request, goal, timeline, timelines, backup })
    return planFrom(catalogue, { backup, goal, timeline: timeline.number, path: timeline.path, branches })
  }
  throw outOfReach(catalogue, goal, backups)
}

/**
 * The timeline on which a backup is proven: the newest that goes on from it, with the newest backup on it when there is
 * one. Undefined when there is no such backup.
 */
export function timelineToProve(catalogue: Catalogue, backupId: string | undefined): number | undefined {
  const all = catalogue.backups.filter(hasDatabase).sort(byTime(one => one.finishedAt))
  const backup = backupId === undefined ? all.at(-1) : all.find(one => one.id === backupId)
  if (!backup) return undefined
  const { systemIdentifier } = backup.database
  const ofSystem = all.filter(one => one.database.systemIdentifier === systemIdentifier)
  const isOn = (one: DatabaseBackup, { path }: Timeline) =>
    isOnPath(path, one.database.stopTimeline, lsnOf(one.database.stop))
  const target = { kind: 'latest' } as const
  const going = timelinesNewestFirst(catalogue, { target }, { target }, ofSystem).filter(one =>
    isOn(backup, one),
  )
  const living = going.find(one => isOn(ofSystem.at(-1) as DatabaseBackup, one))
  return (living ?? going[0])?.number
}

/** Files are not part of the log: those nearest after the wanted moment know every key that was in use then. */
export function chooseFiles(
  backups: readonly BackupMarker[],
  at: Date | undefined,
): BackupMarker | undefined {
  const withFiles = backups.filter(one => one.files).sort(byTime(one => one.startedAt))
  if (at === undefined) return withFiles.at(-1)
  return withFiles.find(one => Date.parse(one.startedAt) >= at.getTime()) ?? withFiles.at(-1)
}

/** The target with what the catalogue knows of it. */
interface Goal {
  target: RestoreTarget
  lsn?: Lsn
  at?: Date
  /** The timeline and cluster that it must be on. */
  timeline?: number
  system?: string
}

function findGoal(catalogue: Catalogue, request: RestoreRequest, now: Date): Goal {
  const { target, timeline } = request
  const wanted = timeline === undefined ? {} : { timeline }
  if (target.kind === 'latest') return { target, ...wanted }
  if (target.kind === 'lsn') return { target, lsn: target.lsn, ...wanted }
  if (target.kind === 'name') return goalOfPoint(catalogue, target)
  if (target.at > now)
    throw unreachable(catalogue, target, `it lies in the future, now is ${now.toISOString()}`)
  return { target, at: target.at, ...wanted }
}

function goalOfPoint(catalogue: Catalogue, target: RestoreTarget & { kind: 'name' }): Goal {
  const point = catalogue.points.find(one => one.name === target.name)
  if (!point) {
    const names = catalogue.points.map(one => one.name)
    const known = names.length === 0 ? 'none' : names.slice(-10).join(', ')
    throw restoreError('RESTORE_POINT_UNKNOWN', { name: target.name, known })
  }
  return {
    target,
    lsn: lsnOf(point.lsn),
    timeline: point.timeline,
    system: point.systemIdentifier,
  }
}

/** Backups of the wanted cluster: named, or the one that the newest backup is of. */
function candidates(catalogue: Catalogue, request: RestoreRequest, goal: Goal): DatabaseBackup[] {
  const all = catalogue.backups.filter(hasDatabase).sort(byTime(one => one.finishedAt))
  const { backupId } = request
  const { repository } = catalogue
  if (backupId !== undefined) {
    const named = all.filter(one => one.id === backupId)
    const known = catalogue.backups.some(one => one.id === backupId)
    const what = known ? `${backupId} with a database` : backupId
    if (named.length === 0) throw backupError('BACKUP_NOT_FOUND', { what, repository })
    return named
  }
  const system = goal.system ?? all.at(-1)?.database.systemIdentifier
  const ofSystem = all.filter(one => one.database.systemIdentifier === system)
  if (ofSystem.length === 0) throw backupError('BACKUP_NOT_FOUND', { what: 'of a database', repository })
  return ofSystem
}

interface Timeline {
  system: string
  number: number
  path: Stretch[]
}

function timelinesNewestFirst(
  catalogue: Catalogue,
  request: RestoreRequest,
  goal: Goal,
  backups: readonly DatabaseBackup[],
): Timeline[] {
  const system = backups[0]?.database.systemIdentifier as string
  const cluster = clusterOf(catalogue, system)
  const known = new Set([
    ...cluster.histories.keys(),
    ...backups.map(one => one.database.stopTimeline),
    ...[...cluster.stock.values()].map(piece => piece.timeline),
  ])
  const wanted = request.timeline ?? goal.timeline
  return [...known]
    .filter(number => wanted === undefined || number === wanted)
    .sort((left, right) => right - left)
    .map(number => ({ system, number, path: pathTo(number, cluster.histories) }))
    .filter(({ path }) => path.length > 0)
}

/** The newest backup that is consistent before the goal, and of this history. */
function newestOn(
  path: readonly Stretch[],
  backups: readonly DatabaseBackup[],
  goal: Pick<Goal, 'lsn' | 'at'>,
): DatabaseBackup | undefined {
  return backups
    .filter(({ database }) => isOnPath(path, database.stopTimeline, lsnOf(database.stop)))
    .filter(({ database }) => goal.lsn === undefined || lsnOf(database.stop) <= goal.lsn)
    .filter(({ database }) => goal.at === undefined || Date.parse(database.stopTime) <= goal.at.getTime())
    .sort((left, right) => (lsnOf(left.database.stop) < lsnOf(right.database.stop) ? -1 : 1))
    .at(-1)
}

/**
 * Nobody is brought silently to a timeline that was given up, or that a trial has begun.
 * @throws RESTORE_TIMELINE_NEEDED when a backup or restore point says that another one may be meant
 */
function branchesBeside(
  catalogue: Catalogue,
  chosen: {
    request: RestoreRequest
    goal: Goal
    timeline: Timeline
    timelines: readonly Timeline[]
    backup: DatabaseBackup
  },
): Branch[] {
  const { goal, timeline, backup } = chosen
  const { target } = goal
  const isNamed = chosen.request.backupId !== undefined
  // From a backup that was asked for, only some lead on.
  const others = chosen.timelines.filter(one => !isNamed || newestOn(one.path, [backup], {}) !== undefined)
  const { segmentBytes } = backup.database
  const { stock } = clusterOf(catalogue, timeline.system)
  const signs = signsOf(catalogue.points, catalogue.backups.filter(hasDatabase), timeline.system).filter(
    ({ timeline, lsn }) => !isNamed || others.some(one => isOnPath(one.path, timeline, lsn)),
  )
  const followed = { timeline: timeline.number, path: timeline.path }
  const branches = branchesOff({ followed, others, signs, target, stock, segmentBytes })
  const sign = signElsewhere(signs, timeline.path, target)
  if (!sign) return branches
  const { what, at } = sign
  const reason = `${what} of ${at.toISOString()} on timeline ${sign.timeline} is not of timeline ${timeline.number}'s history`
  const from = lsnOf(backup.database.start)
  const { to } = walkRange({ stock, path: timeline.path, from, segmentBytes })
  throw unclear({ target, timeline: timeline.number, to, branches, backup }, reason)
}

function planFrom(
  catalogue: Catalogue,
  chosen: { backup: DatabaseBackup; goal: Goal; timeline: number; path: Stretch[]; branches: Branch[] },
): RestorePlan {
  const { backup, goal, timeline, path, branches } = chosen
  const { database } = backup
  const { stock } = clusterOf(catalogue, database.systemIdentifier)
  const wal = walkRange({
    stock,
    path,
    from: lsnOf(database.start),
    until: goal.lsn,
    segmentBytes: database.segmentBytes,
  })
  const stop = lsnOf(database.stop)
  if (wal.to < stop) throw gap({ from: wal.to, to: stop, timeline: database.stopTimeline })
  // Before a moment in time no hole is known to matter; the replay tells when it comes to one.
  if (goal.target.kind !== 'time') refuseHole(wal)
  if (goal.lsn !== undefined && wal.to < goal.lsn) {
    const reason = `the write-ahead log ends at ${formatLsn(wal.to)}`
    throw unreachable(catalogue, goal.target, reason, { backups: [backup], end: formatLsn(wal.to) })
  }
  const files = chooseFiles(catalogue.backups, momentOf(catalogue, backup, goal))
  return {
    backup,
    target: goal.target,
    ...(goal.lsn === undefined ? {} : { targetLsn: goal.lsn }),
    timeline,
    path,
    wal,
    branches,
    ...(files ? { files } : {}),
  }
}

/** Undefined for the newest there is. */
function momentOf(catalogue: Catalogue, backup: DatabaseBackup, goal: Goal): Date | undefined {
  const { target } = goal
  if (target.kind === 'latest') return undefined
  if (target.kind === 'time') return target.at
  const point = target.kind === 'name' && catalogue.points.find(one => one.name === target.name)
  return new Date(point ? point.at : backup.database.stopTime)
}

function outOfReach(catalogue: Catalogue, goal: Goal, backups: readonly DatabaseBackup[]) {
  const after = (one: DatabaseBackup) =>
    (goal.lsn !== undefined && lsnOf(one.database.stop) > goal.lsn) ||
    (goal.at !== undefined && Date.parse(one.database.stopTime) > goal.at.getTime())
  const oldest = backups[0] as DatabaseBackup
  const reason = backups.every(after)
    ? `${backups.length === 1 ? 'the backup' : 'the oldest backup'} ${oldest.id} is consistent only at ${oldest.database.stop}, ${oldest.database.stopTime}`
    : 'no backup lies before it on that timeline'
  return unreachable(catalogue, goal.target, reason, { backups })
}

function unreachable(
  catalogue: Catalogue,
  target: RestoreTarget,
  reason: string,
  window: { backups?: readonly DatabaseBackup[]; end?: string } = {},
) {
  const backups = window.backups ?? catalogue.backups.filter(hasDatabase).sort(byTime(one => one.finishedAt))
  const oldest = backups[0]?.database
  const from = oldest ? `${oldest.stopTime} (LSN ${oldest.stop})` : 'nowhere'
  const to = window.end ? `LSN ${window.end}` : 'the end of the write-ahead log'
  return restoreError('RESTORE_TARGET_UNREACHABLE', { target: describeTarget(target), reason, from, to })
}

function clusterOf(catalogue: Catalogue, system: string): Cluster {
  return catalogue.clusters.get(system) ?? { histories: new Map(), stock: new Map() }
}

function hasDatabase(marker: BackupMarker): marker is DatabaseBackup {
  return marker.database !== undefined
}

function byTime<T>(time: (one: T) => string): (left: T, right: T) => number {
  return (left, right) => Date.parse(time(left)) - Date.parse(time(right))
}
