import { mkdirSync } from 'node:fs'
import type { RunAs } from '#postgres/server/data-directory.ts'
import { parseServerManifest } from '#postgres/wire/manifest.ts'
import { TarReader } from '#postgres/wire/tar.ts'
import { release } from '../envelope/frame.ts'
import type { SealPool } from '../envelope/pool.ts'
import { backupError } from '../errors.ts'
import type { ArchiveFacts, BackupManifest, DatabaseBackup, ObjectFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { DataWriter } from './data-writer.ts'
import { restoreError } from './errors.ts'

export interface LayOptions {
  repository: Repository
  pool: SealPool
  backup: DatabaseBackup
  /** Made here. */
  dataDirectory: string
  /** Made when there is a tablespace. */
  tablespaceDirectory: string
  runAs?: RunAs | undefined
  /** Whether everything is on disk at the end. */
  durable: boolean
  signal?: AbortSignal | undefined
  onProgress?: ((progress: LayProgress) => void) | undefined
}

export interface LayProgress {
  bytesDone: number
  bytesTotal: number
  filesDone: number
}

export interface Laid {
  bytes: number
  files: number
  /** Of the server that was backed up. */
  settings: Record<string, string>
}

// Packs are 32 MB: one being written, the next one being fetched and begun.
const packsAhead = 1

/**
 * Writes the data directory of a backup, each file checked against the server's manifest, global/pg_control last. It is
 * ready for a recovery and for nothing else: recovery.signal and backup_label are there.
 * @throws BACKUP_OBJECT_DAMAGED, BACKUP_OBJECT_MISSING, BACKUP_KEY_NEEDED, RESTORE_FILE_WRONG, RESTORE_CANCELLED
 */
export async function layDatabase(options: LayOptions): Promise<Laid> {
  const { backup, dataDirectory, runAs } = options
  const manifest = await readManifest(options)
  mkdirSync(dataDirectory, { mode: 0o700, recursive: true })
  const { files } = parseServerManifest(Buffer.from(manifest.serverManifest, 'base64'))
  const writer = new DataWriter({ ...options, backupId: backup.id, manifest: files, runAs })
  const bytesTotal = backup.database.archives.reduce((sum, one) => sum + one.rawBytes, 0)
  let bytesDone = 0
  const onBytes = (bytes: number) => {
    bytesDone += bytes
    options.onProgress?.({ bytesDone, bytesTotal, filesDone: writer.files })
    if (options.signal?.aborted) throw restoreError('RESTORE_CANCELLED', { directory: dataDirectory })
  }
  try {
    for (const archive of backup.database.archives) await layArchive(options, archive, writer, onBytes)
    await writer.finish()
  } finally {
    writer.close()
  }
  return { bytes: bytesDone, files: writer.files, settings: manifest.settings }
}

/** The sealed manifest object of a backup. */
async function readManifest(o: {
  repository: Repository
  pool: SealPool
  backup: DatabaseBackup
}): Promise<BackupManifest> {
  const { repository, pool, backup } = o
  const object = backup.database.manifestObject
  const { bytes } = await repository.readSealed(object, { pool, ...expecting(backup, object) })
  return JSON.parse(bytes.toString('utf8')) as BackupManifest
}

async function layArchive(
  options: LayOptions,
  archive: ArchiveFacts,
  writer: DataWriter,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const reader = new TarReader(writer.archive(archive.name, archive.path))
  let bytes = 0
  for await (const frame of framesOf(options, archive.packs)) {
    reader.push(frame)
    bytes += frame.length
    onBytes(frame.length)
    release(frame)
  }
  reader.end()
  if (bytes === archive.rawBytes) return
  const object = archive.packs.at(-1) ?? archive.name
  const reason = `the archive has ${bytes} bytes instead of ${archive.rawBytes}`
  throw backupError('BACKUP_OBJECT_DAMAGED', { object, reason })
}

/** The raw bytes of the packs one after the other; the next ones are fetched and begun before they are needed. */
async function* framesOf(options: LayOptions, packs: readonly string[]): AsyncGenerator<Buffer> {
  const { repository, pool, backup } = options
  const coming: { frames: AsyncIterator<Buffer>; first: Promise<IteratorResult<Buffer>> }[] = []
  let next = 0
  const beginNext = () => {
    const pack = packs[next++]
    if (pack === undefined) return
    const frames = repository.frames(pack, { pool, ...expecting(backup, pack) })[Symbol.asyncIterator]()
    const first = frames.next()
    // Of several that fail, the first one is told.
    first.catch(() => {})
    coming.push({ frames, first })
  }
  for (let i = 0; i < packsAhead; i++) beginNext()
  for (let pack = coming.shift(); pack; pack = coming.shift()) {
    beginNext()
    for (let frame = await pack.first; !frame.done; frame = await pack.frames.next()) yield frame.value
  }
}

function expecting(backup: DatabaseBackup, object: string): { expect: ObjectFacts } {
  const facts = backup.objects.find(one => one.key === object)
  if (!facts) throw backupError('BACKUP_OBJECT_MISSING', { object })
  return { expect: facts }
}
