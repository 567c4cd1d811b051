import { layout, type ReportKind } from './layout.ts'
import type { DrillReport, VerifyReport } from './model.ts'
import type { Repository } from './repository.ts'

/** Reports of a kind, oldest first. A damaged one is told and left out. */
export async function readReports<T>(
  repository: Repository,
  kind: ReportKind,
  onDamaged: (key: string, error: unknown) => void,
  most = 1000,
): Promise<T[]> {
  const keys: string[] = []
  for await (const { key } of repository.storage.list(layout.reports(kind))) keys.push(key)
  const reports: T[] = []
  for (const key of keys.slice(-most)) {
    try {
      reports.push(await repository.readSigned<T>(key))
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

/** When each backup was last proven whole, by a check or by a drill; RFC 3339. */
export function verifiedAt(
  verifies: readonly Pick<VerifyReport, 'wholeBackups' | 'finishedAt'>[],
  drills: readonly Pick<DrillReport, 'backupId' | 'finishedAt' | 'ok'>[],
): Map<string, string> {
  const times = new Map<string, string>()
  const note = (id: string, time: string) => {
    if ((times.get(id) ?? '') < time) times.set(id, time)
  }
  for (const { wholeBackups, finishedAt } of verifies) for (const id of wholeBackups) note(id, finishedAt)
  for (const { backupId, finishedAt, ok } of drills) if (ok) note(backupId, finishedAt)
  return times
}
