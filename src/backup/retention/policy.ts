import { type Lsn, parseLsn, segmentStart } from '#lib/lsn.ts'
import type { BackupMarker } from '../model.ts'
import { type Branch, branchesToKeep, isOnBranch, type TimelineView } from './branches.ts'

export interface RetentionRules {
  keepDays: number
  keepAtLeast: number
  keepFilesDays: number
  keepFilesAtLeast: number
}

export interface RetentionView extends TimelineView {
  /** Complete ones, in any order. */
  backups: readonly BackupMarker[]
  /** Ids that a check or a drill found whole, after they were complete. */
  verified: ReadonlySet<string>
  pinned: ReadonlySet<string>
  /** Why the write-ahead log may not be arriving; undefined when it arrives. */
  receiverStale: string | undefined
  /** People-readable names of restores that read from the repository now. */
  readers: readonly string[]
}

export interface RetentionPlan {
  /** When any is here, nothing may be removed. */
  refusals: string[]
  keep: Decision[]
  remove: Decision[]
  /** By system identifier: WAL that ends at or before this position is needed by no kept backup. */
  walNeededFrom: Map<string, Lsn>
}

export interface Decision {
  backup: BackupMarker
  why: string
}

const dayMs = 24 * 60 * 60 * 1000

/** What may go and what must stay, with the reason for each. Decides only; src/backup/retention/prune.ts acts. */
export function planRetention(view: RetentionView, rules: RetentionRules, now: Date): RetentionPlan {
  const decisions = [
    ...systemsOf(view.backups).flatMap((backups, age) =>
      decideDatabase(backups, view, rules, now, age === 0),
    ),
    ...decideFiles(view, rules, now),
  ]
  const keep = decisions.filter(one => one.kept)
  const remove = decisions.filter(one => !one.kept)
  return {
    refusals: refusals(view, keep, remove),
    keep,
    remove,
    walNeededFrom: walNeeded(view.backups, keep),
  }
}

interface Verdict extends Decision {
  kept: boolean
}

/** Newest first, whatever else they hold; the newest system first. */
function systemsOf(backups: readonly BackupMarker[]): BackupMarker[][] {
  const systems = new Map<string, BackupMarker[]>()
  for (const backup of [...backups].sort(newestFirst)) {
    const system = backup.database?.systemIdentifier
    if (system === undefined) continue
    systems.set(system, [...(systems.get(system) ?? []), backup])
  }
  return [...systems.values()]
}

function newestFirst(a: BackupMarker, b: BackupMarker): number {
  return endOf(b) - endOf(a)
}

/** When the database stood still in the backup: the earliest moment that it can restore. */
function endOf(backup: BackupMarker): number {
  return Date.parse(backup.database?.stopTime ?? backup.finishedAt)
}

function decideDatabase(
  backups: readonly BackupMarker[],
  view: RetentionView,
  rules: RetentionRules,
  now: Date,
  current: boolean,
): Verdict[] {
  const windowFrom = now.getTime() - rules.keepDays * dayMs
  const [main, ...others] = branchesToKeep(backups, view, backup => endOf(backup) > windowFrom)
  const isVerified = (backup: BackupMarker) => view.verified.has(backup.id)
  // The newest one that was there when the window began: every later moment of a branch is restored from it or from a
  // later one. One that lies on another branch leads nowhere.
  const anchorOf = (branch: Branch) =>
    backups.find(one => endOf(one) <= windowFrom && isVerified(one) && isOnBranch(branch, one))
  const anchor = main && anchorOf(main)
  const beside = others.map(branch => ({ branch, anchor: anchorOf(branch) }))
  const leadsBeside = (backup: BackupMarker) =>
    beside.some(one => isOnBranch(one.branch, backup) && (one.anchor ?? backup) === backup)
  const verified = backups.filter(one => isVerified(one) && main && isOnBranch(main, one))
  const minimum = new Set(verified.slice(0, current ? rules.keepAtLeast : 0))
  return backups.map((backup, index) => {
    const kept = (why: string) => ({ backup, why, kept: true })
    if (view.pinned.has(backup.id)) return kept('it is pinned')
    if (endOf(backup) > windowFrom) return kept(`it is inside the window of ${rules.keepDays} days`)
    if (current && index === 0) return kept('it is the newest')
    if (current && backup === anchor) return kept('the window of the past begins with it')
    if (current && anchor === undefined) return kept('no verified backup is as old as the window')
    if (current && leadsBeside(backup)) return kept('another timeline of the window begins with it')
    if (minimum.has(backup)) return kept(`it is one of the last ${rules.keepAtLeast} verified ones`)
    const why = current
      ? `it is older than ${rules.keepDays} days and newer ones are verified`
      : `it is older than ${rules.keepDays} days and of a database that was replaced`
    return { backup, why, kept: false }
  })
}

function decideFiles(view: RetentionView, rules: RetentionRules, now: Date): Verdict[] {
  const oldest = now.getTime() - rules.keepFilesDays * dayMs
  const backups = view.backups.filter(backup => backup.database === undefined).sort(newestFirst)
  const verified = backups.filter(backup => view.verified.has(backup.id))
  const minimum = new Set(verified.slice(0, rules.keepFilesAtLeast))
  return backups.map((backup, index) => {
    const kept = (why: string) => ({ backup, why, kept: true })
    if (view.pinned.has(backup.id)) return kept('it is pinned')
    if (endOf(backup) > oldest) return kept(`it is younger than ${rules.keepFilesDays} days`)
    if (index === 0) return kept('it is the newest of its kind')
    if (minimum.has(backup)) return kept(`it is one of the last ${rules.keepFilesAtLeast} verified ones`)
    if (verified.length < rules.keepFilesAtLeast) return kept('too few of its kind are verified')
    return { backup, why: `it is older than ${rules.keepFilesDays} days`, kept: false }
  })
}

/** Removal waits while the newest is not proven, the log does not arrive, somebody restores, or too much would go. */
function refusals(view: RetentionView, keep: readonly Decision[], remove: readonly Decision[]): string[] {
  const found: string[] = []
  const newest = systemsOf(view.backups)[0]?.[0]
  if (!newest) found.push('there is no complete database backup')
  else if (!view.verified.has(newest.id))
    found.push(`the newest backup, ${newest.id}, is not verified: run \`moonyetis backup verify\` first`)
  if (view.receiverStale !== undefined) found.push(`the WAL archive is not up to date: ${view.receiverStale}`)
  for (const reader of view.readers) found.push(`a restore reads from the repository: ${reader}`)
  if (remove.length > 0 && remove.length > keep.length)
    found.push(`${remove.length} of ${remove.length + keep.length} backups would go, more than half`)
  return found
}

/** The first position that a kept backup needs, for each system that keeps one. The order of timelines plays no part: */
/** whatever lies before every kept backup's beginning is needed by none. */
function walNeeded(all: readonly BackupMarker[], keep: readonly Decision[]): Map<string, Lsn> {
  const needed = new Map<string, Lsn>()
  for (const { backup } of keep) {
    const { database } = backup
    if (!database) continue
    const start = parseLsn(database.start)
    // A position that cannot be read must keep everything.
    const from = start === undefined ? 0n : segmentStart(start, database.segmentBytes)
    const known = needed.get(database.systemIdentifier)
    if (known === undefined || from < known) needed.set(database.systemIdentifier, from)
  }
  for (const { database } of all) {
    // Every backup of this system goes, so its WAL serves nothing any more.
    if (database && !needed.has(database.systemIdentifier)) needed.set(database.systemIdentifier, everything)
  }
  return needed
}

const everything: Lsn = 0xffff_ffff_ffff_ffffn
