import { randomInt } from 'node:crypto'
import { idTime, layout } from '../layout.ts'
import type { BackupMarker, ObjectFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { baseBackupError } from './errors.ts'
import { requireLog } from './log-check.ts'

/** The part of a storage lease that says whether we may still make things count. */
export interface Fence {
  /** Rejects when another one has taken over. */
  check(): Promise<void>
}

/**
 * Makes a backup of the objects that are stored: one of them is read again, the log that it needs must be there, then
 * the marker is written, last.
 * @throws BACKUP_OBJECT_DAMAGED, BACKUP_OBJECT_MISSING, BACKUP_WAL_GAP, LEASE_LOST, BACKUP_EXISTS
 */
export async function completeBackup(o: {
  repository: Repository
  lease: Fence
  marker: BackupMarker
  /** Of `length` objects, the number of the one to read again. */
  choose?: (length: number) => number
}): Promise<void> {
  const { repository, lease, marker, choose = randomInt } = o
  const sample = marker.objects[choose(marker.objects.length)] as ObjectFacts
  await repository.checkSealed(sample.key, sample)
  await requireAllThere(repository, marker)
  if (marker.database) await requireLog(repository, marker.database)
  const key = layout.complete(marker.id)
  await lease.check()
  if (!(await repository.writeSigned(key, marker))) throw baseBackupError('BACKUP_EXISTS', { object: key })
  // Whoever slept between the check and the writing may find that its objects were swept meanwhile.
  try {
    await lease.check()
  } catch (error) {
    await repository.storage.delete([key])
    throw error
  }
}

async function requireAllThere(repository: Repository, marker: BackupMarker): Promise<void> {
  const stored = new Map<string, number>()
  for await (const { key, bytes } of repository.storage.list(layout.backup(marker.id))) stored.set(key, bytes)
  const wrong = marker.objects.filter(({ key, bytes }) => stored.get(key) !== bytes).map(({ key }) => key)
  if (wrong.length === 0) return
  const reason = `the repository does not have ${wrong.slice(0, 5).join(', ')} as written`
  throw baseBackupError('BACKUP_STREAM_WRONG', { reason })
}

// A lease lasts a minute; who comes this late is fenced off. Leftovers cost nothing but room.
const usualGraceMs = 10 * 60_000

/**
 * Removes what backups left that were killed. Only for the holder of the backup lease.
 * @returns the ids of the backups of which something was removed
 */
export async function sweepIncomplete(o: {
  repository: Repository
  now: Date
  /** How old a backup without a marker must be. */
  graceMs?: number
}): Promise<string[]> {
  const { storage } = o.repository
  const found = new Map<string, string[]>()
  const complete = new Set<string>()
  for await (const { key } of storage.list(layout.backups)) {
    const [id = '', name] = key.slice(layout.backups.length).split('/')
    if (name === 'COMPLETE') complete.add(id)
    else found.set(id, [...(found.get(id) ?? []), key])
  }
  const before = o.now.getTime() - (o.graceMs ?? usualGraceMs)
  const left = [...found.keys()].filter(id => !complete.has(id) && (idTime(id) ?? before) < before)
  for (const id of left) await storage.delete(found.get(id) as string[])
  return left
}

/** Removes what a backup that failed has stored. What cannot be removed now is swept later. */
export async function discardBackup(repository: Repository, id: string): Promise<void> {
  const keys: string[] = []
  for await (const { key } of repository.storage.list(layout.backup(id))) keys.push(key)
  if (keys.includes(layout.complete(id))) return
  await repository.storage.delete(keys)
}
