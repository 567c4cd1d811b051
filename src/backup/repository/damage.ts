import { Failure } from '#lib/errors.ts'
import { Damage } from '../envelope/damage.ts'
import { backupError } from '../errors.ts'

/** Gives faults of an object its name. @throws BACKUP_OBJECT_DAMAGED, BACKUP_OBJECT_MISSING, or what rose */
export async function naming<T>(object: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw named(object, error)
  }
}

export function named(object: string, error: unknown): unknown {
  if (error instanceof Damage)
    return backupError('BACKUP_OBJECT_DAMAGED', { object, reason: error.message }, { cause: error })
  if (error instanceof Failure && error.code === 'STORAGE_NOT_FOUND')
    return backupError('BACKUP_OBJECT_MISSING', { object }, { cause: error })
  return error
}
