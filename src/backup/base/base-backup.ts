import { once } from 'node:events'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn, type Lsn } from '#lib/lsn.ts'
import type { BaseBackupSink, ReplicationConnection } from '#postgres/wire/connection.ts'
import { parseServerManifest } from '#postgres/wire/manifest.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { DataKey } from '../keys/data-keys.ts'
import { layout } from '../layout.ts'
import { type BackupManifest, type DatabaseFacts, formatVersion, type ObjectFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { baseBackupError } from './errors.ts'
import { requireAsManifest } from './manifest-check.ts'
import { OwnWal } from './own-wal.ts'
import { PackStream } from './pack-stream.ts'
import type { ProgressMeter } from './progress.ts'
import { readSettings, sizeInBytes } from './server-facts.ts'

/** Opens a replication connection that ends when the signal aborts. */
export type Connect = (options: { signal: AbortSignal }) => Promise<ReplicationConnection>

export interface BaseBackupOptions {
  connect: Connect
  /** The database server's clock, by SQL. */
  databaseTime: () => Promise<Date>
  repository: Repository
  pool: SealPool
  dataKey: DataKey
  id: string
  label?: string | undefined
  checkpoint?: 'fast' | 'spread'
  maxRateKilobytes?: number | undefined
  /** Resolves when an archive has stored the WAL up to there. Without it the backup stores the WAL that it needs itself. */
  untilStored?: ((lsn: Lsn) => Promise<void>) | undefined
  progress: ProgressMeter
  signal: AbortSignal
  clock: Clock
  log: Log
}

export interface TakenBaseBackup {
  database: DatabaseFacts
  objects: ObjectFacts[]
  rawBytes: number
  storedBytes: number
}

/**
 * Streams a base backup out of the server (BASE_BACKUP, PostgreSQL 15 and newer), seals and stores it, and proves it
 * against the server's own manifest. What it leaves is not a backup before completeBackup() has written the marker.
 * @throws WIRE_*, MANIFEST_INVALID, TAR_INVALID, BACKUP_STREAM_WRONG, BACKUP_WRONG_SYSTEM, BACKUP_WAL_LATE, STORAGE_*
 */
export async function takeBaseBackup(o: BaseBackupOptions): Promise<TakenBaseBackup> {
  await using stack = new AsyncDisposableStack()
  o.progress.phase('connecting')
  const connection = stack.adopt(await o.connect({ signal: o.signal }), one => one.close())
  const { systemIdentifier } = await connection.identifySystem()
  await requireSameSystem(o.repository, systemIdentifier)
  const settings = await readSettings(connection)
  const segmentBytes = sizeInBytes(settings.wal_segment_size ?? '16MB')
  const ownWal = o.untilStored ? undefined : await keepWal(o, stack, { systemIdentifier, segmentBytes })
  const startTime = await o.databaseTime()
  const stream = await streamIn(connection, o)
  const stopTime = await o.databaseTime()
  await connection.close()
  const { start, end, packs, serverManifest } = stream
  requireAsManifest(packs.index.files, parseServerManifest(serverManifest))
  const manifest = await storeManifest(o, stream, settings)
  o.progress.phase('wal')
  await ownWal?.store({ timeline: end.timeline, start: start.lsn, stop: end.lsn })
  if (o.untilStored) await unlessAborted(o.untilStored(end.lsn), o.signal)
  const server = { systemIdentifier, serverVersion: connection.serverVersion, segmentBytes }
  const times = { startTime: startTime.toISOString(), stopTime: stopTime.toISOString() }
  const database: DatabaseFacts = {
    ...server,
    ...rangeOf(stream),
    ...times,
    checksums: settings.data_checksums === 'on',
    manifestObject: manifest.key,
    archives: packs.archives,
  }
  const objects = [...packs.objects, manifest].sort((a, b) => (a.key < b.key ? -1 : 1))
  return { database, objects, rawBytes: packs.rawBytes, storedBytes: packs.storedBytes + manifest.bytes }
}

/** An archive that is far behind does not keep anybody who has changed their mind. */
async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const over = new AbortController()
  try {
    await Promise.race([work, once(signal, 'abort', { signal: over.signal })])
  } finally {
    over.abort()
  }
  signal.throwIfAborted()
}

function rangeOf({
  start,
  end,
}: Streamed): Pick<DatabaseFacts, 'timeline' | 'start' | 'stop' | 'stopTimeline'> {
  return {
    timeline: start.timeline,
    start: formatLsn(start.lsn),
    stop: formatLsn(end.lsn),
    stopTimeline: end.timeline,
  }
}

async function requireSameSystem(repository: Repository, systemIdentifier: string): Promise<void> {
  const stored = await repository.systems()
  if (stored.length === 0 || stored.includes(systemIdentifier)) return
  const place = repository.storage.description
  throw baseBackupError('BACKUP_WRONG_SYSTEM', { repository: place, stored: stored[0], systemIdentifier })
}

async function keepWal(
  o: BaseBackupOptions,
  stack: AsyncDisposableStack,
  facts: { systemIdentifier: string; segmentBytes: number },
): Promise<OwnWal> {
  const connection = stack.adopt(await o.connect({ signal: o.signal }), one => one.close())
  const { repository, pool, dataKey } = o
  // Slots are named by [a-z0-9_], and each backup has one of its own.
  const slot = `moonyetis_${o.id.toLowerCase().replace(/[^a-z0-9]+/g, '_')}`.slice(0, 63)
  return OwnWal.keep({ connection, repository, pool, dataKey, slot, ...facts })
}

interface Streamed {
  start: { lsn: Lsn; timeline: number }
  end: { lsn: Lsn; timeline: number }
  packs: PackStream
  serverManifest: Buffer
}

async function streamIn(connection: ReplicationConnection, o: BaseBackupOptions): Promise<Streamed> {
  const { repository, pool, dataKey, id, label, checkpoint = 'fast', maxRateKilobytes, signal, progress } = o
  const packs = new PackStream({ repository, pool, dataKey, backupId: id, signal })
  const manifest: Buffer[] = []
  progress.phase('checkpoint')
  try {
    const { start, end } = await connection.baseBackup(
      {
        label: `moonyetis ${label ?? id}`,
        checkpoint,
        ...(maxRateKilobytes === undefined ? {} : { maxRateKilobytes }),
      },
      newSink(packs, manifest, progress),
    )
    await packs.end()
    progress.bytes({ bytesDone: packs.rawBytes, storedBytes: packs.storedBytes })
    return { start, end, packs, serverManifest: Buffer.concat(manifest) }
  } catch (error) {
    // Whoever removes what was stored must not be followed by an upload.
    await packs.settle()
    throw error
  }
}

function newSink(packs: PackStream, manifest: Buffer[], progress: ProgressMeter): BaseBackupSink {
  return {
    begin: ({ tablespaces }) => {
      const bytesTotal = tablespaces.reduce((sum, one) => sum + (one.kilobytes ?? 0) * 1024, 0)
      progress.bytes({ bytesTotal })
      progress.phase('data')
    },
    archive: (name, path) => packs.begin(name.replace(/\.tar$/, ''), path),
    data: bytes => {
      progress.bytes({ bytesDone: packs.rawBytes, storedBytes: packs.storedBytes })
      return packs.write(bytes)
    },
    manifest: () => {},
    manifestData: bytes => void manifest.push(Buffer.from(bytes)),
    // What we have counted ourselves is newer.
    progress: () => {},
  }
}

async function storeManifest(
  o: BaseBackupOptions,
  { packs, serverManifest }: Streamed,
  settings: Record<string, string>,
): Promise<ObjectFacts> {
  const files = packs.index.files.map(({ archive, path, bytes, offset }) => ({
    archive,
    path,
    bytes,
    offset,
  }))
  const manifest: BackupManifest = {
    format: formatVersion,
    serverManifest: serverManifest.toString('base64'),
    files,
    settings,
  }
  const key = layout.manifest(o.id)
  const { repository, pool, dataKey } = o
  const { created, bytes, sha256 } = await repository.writeSealed({
    object: key,
    kind: 'manifest',
    facts: {},
    dataKey,
    bytes: Buffer.from(JSON.stringify(manifest)),
    pool,
  })
  if (!created) throw baseBackupError('BACKUP_EXISTS', { object: key })
  return { key, bytes, sha256 }
}
