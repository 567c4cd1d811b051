import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { tarEnd, tarHeader, tarPadding } from '#postgres/wire/tar-writer.ts'
import { backupError } from '../errors.ts'
import type { DataKey } from '../keys/data-keys.ts'
import { layout } from '../layout.ts'
import type { BackupMarker, ObjectFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { filesError } from './errors.ts'
import { readHome, type SetEntry } from './read-home.ts'
import { type Owner, writeEntries } from './write-files.ts'

export interface TakenFileSet {
  object: ObjectFacts
  /** Files and links; directories are not counted. */
  count: number
  /** Of their content. */
  bytes: number
  skipped: { path: string; reason: string }[]
}

/**
 * Seals secrets, player-facing keys, certificates and configuration of a home into one object. It holds a tar archive,
 * the same bytes for the same files.
 * @throws FILES_TOO_LARGE, FILES_UNREADABLE, STORAGE_*
 */
export async function takeFileSet(o: {
  home: Home
  repository: Repository
  dataKey: DataKey
  /** Of the backup. */
  id: string
  log: Log
  signal?: AbortSignal | undefined
}): Promise<TakenFileSet> {
  const { home, repository, dataKey, id, log, signal } = o
  const { entries, bytes, skipped } = await readHome(home.root, { signal })
  if (skipped.length > 0) log.warn({ backup: id, skipped }, 'some files are not in the backup')
  const key = layout.files(id)
  const sealed = { object: key, kind: 'files', facts: {}, dataKey, bytes: archiveOf(entries) } as const
  const stored = await repository.writeSealed(sealed)
  if (!stored.created)
    throw backupError('BACKUP_OBJECT_DAMAGED', { object: key, reason: 'it was there before' })
  const object = { key, bytes: stored.bytes, sha256: stored.sha256 }
  return { object, count: entries.filter(entry => entry.type !== 'directory').length, bytes, skipped }
}

function archiveOf(entries: readonly SetEntry[]): Buffer {
  const parts = entries.flatMap(({ content = Buffer.alloc(0), ...entry }) => [
    tarHeader(entry),
    content,
    tarPadding(content.length),
  ])
  return Buffer.concat([...parts, tarEnd])
}

/**
 * Writes the files of a backup below `to`, with their modes and times. Nothing that is there is replaced: each member
 * (`.secrets`, `config.json`, ...) must be absent or an empty directory. Owners come back only for root.
 * @throws FILES_NOT_IN_BACKUP, FILES_TARGET_OCCUPIED, BACKUP_KEY_NEEDED, BACKUP_OBJECT_DAMAGED
 */
export async function restoreFileSet(o: {
  repository: Repository
  marker: BackupMarker
  to: string
  /** Only these paths and what lies below them, such as `.secrets`. */
  only?: readonly string[] | undefined
  /** Owns what is written, instead of the owners at the time of the backup; for root. */
  owner?: Owner | undefined
}): Promise<{ count: number; bytes: number }> {
  const { repository, marker, to, only, owner } = o
  const object = marker.files?.object
  if (object === undefined) throw filesError('FILES_NOT_IN_BACKUP', { id: marker.id, what: 'files' })
  const expect = marker.objects.find(one => one.key === object)
  const { bytes } = await repository.readSealed(object, expect ? { expect } : {})
  const written = writeEntries({ archive: bytes, to, only, owner })
  if (only && written.entries === 0)
    throw filesError('FILES_NOT_IN_BACKUP', { id: marker.id, what: only.join(', ') })
  return { count: written.count, bytes: written.bytes }
}
