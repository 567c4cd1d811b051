import { formatLsn, type Lsn } from '#lib/lsn.ts'
import type { DatabaseBackup, RestorePoint } from '../model.ts'
import { restoreError } from './errors.ts'
import { describeTarget, type RestoreTarget } from './target.ts'
import { forkOf, isOnPath, lsnOf, type Stretch } from './timelines.ts'
import { type WalRange, walkRange } from './wal-range.ts'

/** A timeline that has something which the followed one leaves out. */
export interface Branch {
  timeline: number
  path: Stretch[]
  /** Where the two part. */
  fork: Lsn
  /** What is there of its log from the fork on. */
  wal: WalRange
  /** And of the followed timeline's. */
  followedWal: WalRange
  /** The newest backup of its history. */
  lastBackup?: DatabaseBackup
  /** When the followed timeline was last seen behind the fork, not after the target. */
  passedAt?: Date
}

/** What tells that a database was at a position at a time: a backup or a restore point. */
export interface Sign {
  /** For people. */
  what: string
  timeline: number
  lsn: Lsn
  at: Date
  backup?: DatabaseBackup
}

export interface Followed {
  timeline: number
  path: readonly Stretch[]
}

/** Oldest first. */
export function signsOf(
  points: readonly RestorePoint[],
  backups: readonly DatabaseBackup[],
  system: string,
): Sign[] {
  const ofBackups = backups
    .filter(({ database }) => database.systemIdentifier === system)
    .map(backup => ({
      what: `the backup ${backup.id}`,
      timeline: backup.database.stopTimeline,
      lsn: lsnOf(backup.database.stop),
      at: new Date(backup.database.stopTime),
      backup,
    }))
  const ofPoints = points
    .filter(one => one.systemIdentifier === system)
    .map(({ name, timeline, lsn, at }) => ({
      what: `the restore point ${name}`,
      timeline,
      lsn: lsnOf(lsn),
      at: new Date(at),
    }))
  return [...ofBackups, ...ofPoints].sort((left, right) => left.at.getTime() - right.at.getTime())
}

/** Timelines that have log, backups or restore points where the followed one does not go. */
export function branchesOff(o: {
  followed: Followed
  others: readonly { number: number; path: Stretch[] }[]
  signs: readonly Sign[]
  target: RestoreTarget
  stock: Parameters<typeof walkRange>[0]['stock']
  segmentBytes: number
}): Branch[] {
  const { followed, signs, target, stock, segmentBytes } = o
  return o.others.flatMap(({ number, path }) => {
    const fork = forkOf(followed.path, path)
    if (fork === undefined) return []
    const wal = walkRange({ stock, path, from: fork, segmentBytes })
    const own = signs.filter(one => isOn(path, one))
    if (wal.to <= fork && own.every(one => isOn(followed.path, one))) return []
    const lastBackup = own.findLast(one => one.backup)?.backup
    const passedAt = signs.findLast(
      one => one.lsn > fork && isOn(followed.path, one) && isBefore(one, target),
    )?.at
    const followedWal = walkRange({ stock, path: followed.path, from: fork, segmentBytes })
    const known = { ...(lastBackup && { lastBackup }), ...(passedAt && { passedAt }) }
    return [{ timeline: number, path, fork, wal, followedWal, ...known }]
  })
}

/** What says that another timeline may be meant: the newest sign there is, or any before the target. */
export function signElsewhere(
  signs: readonly Sign[],
  path: readonly Stretch[],
  target: RestoreTarget,
): Sign | undefined {
  const speaking = target.kind === 'latest' ? signs.slice(-1) : signs.filter(one => isBefore(one, target))
  return speaking.findLast(one => !isOn(path, one))
}

/** Server's clock in the commits of a branch behind the fork. */
export interface BranchCommits {
  first: Date
  last: Date
}

/**
 * Whether the commits of a branch say that it may be meant. A branch that went silent before the followed timeline began
 * was given up; one that the followed timeline left behind before the target, and that goes on, lives.
 * @param ownFirst the followed timeline's first commit behind the fork
 */
export function isMeant(
  branch: Pick<Branch, 'fork' | 'wal' | 'passedAt'>,
  target: RestoreTarget,
  commits: BranchCommits,
  ownFirst: Date | undefined,
): boolean {
  if (target.kind === 'lsn') return target.lsn > branch.fork && target.lsn <= branch.wal.to
  const until = target.kind === 'time' ? target.at.getTime() : Number.POSITIVE_INFINITY
  if (commits.first.getTime() > until) return false
  const own = [ownFirst, branch.passedAt].flatMap(at => (at ? [at.getTime()] : [])).filter(at => at <= until)
  // The replay would end at the fork, and leave out what was committed behind it.
  if (own.length === 0) return true
  return commits.last.getTime() >= Math.max(...own)
}

/** Everybody must say which one is meant rather than get the one that was not. */
export function unclear(
  plan: {
    target: RestoreTarget
    timeline: number
    to: Lsn
    branches: readonly Branch[]
    backup: DatabaseBackup
  },
  reason: string,
) {
  const followed = { timeline: plan.timeline, wal: { to: plan.to }, lastBackup: plan.backup }
  const choices = [followed, ...plan.branches].slice(0, mostChoices).map(describe).join('; ')
  return restoreError('RESTORE_TIMELINE_NEEDED', { target: describeTarget(plan.target), reason, choices })
}

// Beyond that nobody reads them.
const mostChoices = 8

function describe({
  timeline,
  wal,
  lastBackup,
}: Pick<Branch, 'timeline' | 'lastBackup'> & { wal: { to: Lsn } }) {
  const backup = lastBackup ? `last backup ${lastBackup.id} of ${lastBackup.database.stopTime}` : 'no backup'
  return `--timeline ${timeline} (${backup}, its log goes to ${formatLsn(wal.to)})`
}

function isOn(path: readonly Stretch[], { timeline, lsn }: Sign): boolean {
  return isOnPath(path, timeline, lsn)
}

function isBefore({ at, lsn }: Sign, target: RestoreTarget): boolean {
  if (target.kind === 'time') return at <= target.at
  return target.kind === 'lsn' ? lsn <= target.lsn : true
}
