import { Failure } from '#lib/errors.ts'
import { layout } from '../layout.ts'
import type { Repository } from '../repository.ts'
import type { RestorePlan } from './plan.ts'

/**
 * Opens the keys of everything that a plan reads, before anything is written: of the backup, of the files, and of the
 * last whole segment, since the log takes a new key with each backup and never in between.
 * @throws BACKUP_KEY_NEEDED
 */
export async function requireKeys(repository: Repository, plan: RestorePlan): Promise<void> {
  for (const id of new Set([...plan.backup.dataKeys, ...(plan.files?.dataKeys ?? [])]))
    await repository.dataKey(id)
  const { systemIdentifier } = plan.backup.database
  for (const segment of plan.wal.segments.toReversed()) {
    const object = layout.segment(systemIdentifier, segment)
    if (!(await repository.storage.head(object))) continue
    await repository.dataKey((await repository.inspect(object)).dataKey)
    return
  }
}

/** Whether that goes well. */
export async function hasKeys(repository: Repository, plan: RestorePlan): Promise<boolean> {
  try {
    await requireKeys(repository, plan)
    return true
  } catch (error) {
    if (isKeyMissing(error)) return false
    throw error
  }
}

export function isKeyMissing(error: unknown): boolean {
  return error instanceof Failure && error.code === 'BACKUP_KEY_NEEDED'
}
