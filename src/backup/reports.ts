import { layout, type ReportKind } from './layout.ts'
import type { DrillReport, VerifyReport } from './model.ts'
import type { Repository } from './repository.ts'

// Pruning leaves those of the recovery window and a month more; they are a few each day.
const most = 1000

/** The newest reports of a kind, oldest first. A damaged one is told and left out. */
export function readReports<T>(
  repository: Repository,
  kind: ReportKind,
  onDamaged: (key: string, error: unknown) => void,
): Promise<T[]> {
  return readEach<T, T>(repository, kind, onDamaged, report => report)
}

/** A check without its inventory, which is as long as the repository has small objects. */
export interface CheckFound extends Omit<VerifyReport, 'inventory'> {
  /** Only a check of the whole repository takes one. */
  hasInventory: boolean
}

/** What the checks found, oldest first; one inventory at a time is in memory. */
export function readChecks(
  repository: Repository,
  onDamaged: (key: string, error: unknown) => void,
): Promise<CheckFound[]> {
  const withoutInventory = ({ inventory, ...found }: VerifyReport) => ({
    ...found,
    hasInventory: inventory.length > 0,
  })
  return readEach(repository, 'verify', onDamaged, withoutInventory)
}

async function readEach<T, R>(
  repository: Repository,
  kind: ReportKind,
  onDamaged: (key: string, error: unknown) => void,
  take: (report: T) => R,
): Promise<R[]> {
  const keys: string[] = []
  for await (const { key } of repository.storage.list(layout.reports(kind))) keys.push(key)
  const reports: R[] = []
  for (const key of keys.slice(-most)) {
    try {
      reports.push(take(await repository.readSigned<T>(key)))
    } catch (error) {
      onDamaged(key, error)
    }
  }
  return reports
}

export function latestReport<T extends { finishedAt: string }>(reports: readonly T[]): T | undefined {
  return reports.reduce<T | undefined>(
    (latest, one) => (latest && latest.finishedAt >= one.finishedAt ? latest : one),
    undefined,
  )
}

/**
 * When each backup was last proven whole, by a check or by a drill; RFC 3339. A fault that was found later takes the
 * proof back: one in a backup's own objects from that backup, one in log or keys from all that were not found whole then.
 */
export function verifiedAt(
  verifies: readonly Pick<VerifyReport, 'wholeBackups' | 'finishedAt' | 'faults'>[],
  drills: readonly Pick<DrillReport, 'backupId' | 'finishedAt' | 'ok'>[],
): Map<string, string> {
  const times = new Map<string, string>()
  const proven = drills
    .filter(one => one.ok)
    .map(one => ({ wholeBackups: [one.backupId], faults: [], finishedAt: one.finishedAt }))
  const inOrder = [...verifies, ...proven].sort((a, b) => (a.finishedAt < b.finishedAt ? -1 : 1))
  for (const { wholeBackups, faults, finishedAt } of inOrder) {
    const objects = faults.map(one => one.object)
    const isShared = objects.some(key => shared.some(prefix => key.startsWith(prefix)))
    for (const id of [...times.keys()])
      if (isShared || objects.some(key => key.startsWith(layout.backup(id)))) times.delete(id)
    for (const id of wholeBackups) times.set(id, finishedAt)
  }
  return times
}

const shared = [layout.clusters, layout.allTails, layout.dataKeys]
