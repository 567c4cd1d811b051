import { randomBytes } from 'node:crypto'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import type { Lsn } from '#lib/lsn.ts'
import { acquireLease, type Lease } from '#storage/lease.ts'
import type { SealPool } from '../envelope/pool.ts'
import { backupError } from '../errors.ts'
import { takeFileSet } from '../files/file-set.ts'
import type { DataKey } from '../keys/data-keys.ts'
import { backupId, layout } from '../layout.ts'
import { type BackupKind, type BackupMarker, formatVersion } from '../model.ts'
import type { Repository } from '../repository.ts'
import { type Connect, type TakenBaseBackup, takeBaseBackup } from './base-backup.ts'
import { completeBackup, discardBackup, sweepIncomplete } from './complete.ts'
import { baseBackupError } from './errors.ts'
import { type BackupProgress, ProgressMeter } from './progress.ts'

export interface RunBackupOptions {
  kind: BackupKind
  label?: string | undefined
  /** Whose files are backed up. */
  home: Home
  repository: Repository
  pool: SealPool
  /** Needed unless only files are backed up. */
  database?: DatabaseAccess | undefined
  /** The moment of the schedule that this is for: a backup that began since then makes it unnecessary. */
  dueAt?: Date | undefined
  /** Data keys that an archive on this machine seals with, alive or not, whatever repository it fills. */
  walKeysInUse?: (() => readonly string[]) | undefined
  /** For people: who waits for us sees it. */
  holder: string
  /** Name and version that go into the marker. */
  program: string
  /** How long a holder of the lease may be silent. */
  leaseMs?: number
  clock: Clock
  log: Log
  onProgress?: ((progress: BackupProgress) => void) | undefined
  /** Told at the end, however it was. */
  audit?: ((event: BackupEvent) => Promise<void>) | undefined
  signal?: AbortSignal | undefined
}

export interface DatabaseAccess {
  connect: Connect
  /** The database server's clock, by SQL. */
  databaseTime: () => Promise<Date>
  checkpoint?: 'fast' | 'spread'
  maxRateKilobytes?: number | undefined
  /** With an archive: it takes a new data key for the WAL from now on; answers its id. */
  rotateWalKey?: (() => Promise<string>) | undefined
  /** With an archive: resolves when it has stored the WAL up to there. */
  untilStored?: ((lsn: Lsn) => Promise<void>) | undefined
}

export interface BackupEvent {
  kind: BackupKind
  id: string
  outcome: 'done' | 'failed' | 'cancelled'
  facts: Record<string, unknown>
}

export interface RanBackup {
  /** `skipped` when a backup that was there already does. */
  outcome: 'done' | 'skipped'
  marker: BackupMarker
}

// A stalled disk or network may miss a renewal or two.
const usualLeaseMs = 60_000

/**
 * Makes a whole backup under the lease locks/backup/: files, database, marker last. Of two at once one gets BACKUP_BUSY.
 * @throws BACKUP_BUSY, BACKUP_CANCELLED, LEASE_LOST and what its parts throw; then nothing counts as a backup
 */
export async function runBackup(o: RunBackupOptions): Promise<RanBackup> {
  const done = await doneBefore(o)
  if (done) return { outcome: 'skipped', marker: done }
  const lease = await takeLease(o)
  try {
    // Another one may have made it while we waited for nothing more than the lease.
    const meanwhile = await doneBefore(o)
    if (meanwhile) return { outcome: 'skipped', marker: meanwhile }
    return { outcome: 'done', marker: await new Run(o, lease).run() }
  } finally {
    await lease.release()
  }
}

/** The complete backup that serves for what is due at `dueAt`: as much in it, and begun no earlier. */
export function alreadyDone(
  markers: readonly BackupMarker[],
  due: { kind: BackupKind; dueAt: Date },
): BackupMarker | undefined {
  const dueAt = due.dueAt.toISOString()
  return markers.findLast(
    marker => (marker.kind === due.kind || marker.kind === 'full') && marker.startedAt >= dueAt,
  )
}

async function doneBefore({ kind, dueAt, repository }: RunBackupOptions): Promise<BackupMarker | undefined> {
  return dueAt && alreadyDone(await repository.backups(), { kind, dueAt })
}

async function takeLease(o: RunBackupOptions): Promise<Lease> {
  const { repository, holder, leaseMs: ttlMs = usualLeaseMs, clock, log, signal } = o
  const prefix = layout.locks('backup')
  try {
    const { storage } = repository
    return await acquireLease({ storage, prefix, holder, ttlMs, clock, log, ...(signal ? { signal } : {}) })
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'LEASE_HELD') throw error
    const { holder, since, expiresInSeconds: leaseSeconds } = error.facts
    throw backupError('BACKUP_BUSY', { what: 'the backup', holder, since, leaseSeconds }, { cause: error })
  }
}

class Run {
  readonly #o: RunBackupOptions
  readonly #lease: Lease
  readonly #signal: AbortSignal
  readonly #progress: ProgressMeter
  readonly #startedAt: Date
  readonly #id: string

  constructor(options: RunBackupOptions, lease: Lease) {
    this.#o = options
    this.#lease = lease
    this.#signal = AbortSignal.any([lease.lost, ...(options.signal ? [options.signal] : [])])
    this.#progress = new ProgressMeter(options)
    this.#startedAt = options.clock.now()
    this.#id = backupId(options.kind, this.#startedAt, randomBytes(3).toString('hex'))
  }

  async run(): Promise<BackupMarker> {
    try {
      const marker = await this.#work()
      const { rawBytes, storedBytes, finishedAt } = marker
      this.#o.log.info({ backup: this.#id, rawBytes, storedBytes }, 'backup completed')
      await this.#audit('done', { rawBytes, storedBytes, finishedAt })
      return marker
    } catch (error) {
      const failure = this.#failure(error)
      await this.#discard()
      const outcome =
        failure instanceof Failure && failure.code === 'BACKUP_CANCELLED' ? 'cancelled' : 'failed'
      await this.#audit(outcome, { reason: (failure as Error).message })
      throw failure
    }
  }

  async #work(): Promise<BackupMarker> {
    const { kind, repository, log } = this.#o
    this.#signal.throwIfAborted()
    const swept = await sweepIncomplete({ repository, now: this.#startedAt })
    if (swept.length > 0) log.warn({ swept }, 'what killed backups left was removed')
    const dataKey = await repository.newDataKey()
    const walKey = kind === 'files' ? undefined : await this.#o.database?.rotateWalKey?.()
    const files = kind === 'db' ? undefined : await this.#takeFiles(dataKey)
    const database = kind === 'files' ? undefined : await this.#takeDatabase(dataKey)
    const marker = this.#markerOf(dataKey, files, database)
    this.#progress.phase('completing')
    this.#signal.throwIfAborted()
    await completeBackup({ repository, lease: this.#lease, marker })
    // Older chains open with the recovery key alone from now on.
    if (kind !== 'files') {
      const inUse = this.#o.walKeysInUse?.() ?? []
      repository.ring.keepOnly([dataKey.id, ...(walKey ? [walKey] : []), ...inUse])
    }
    return marker
  }

  #takeFiles(dataKey: DataKey) {
    this.#progress.phase('files')
    const { home, repository, log } = this.#o
    return takeFileSet({ home, repository, dataKey, id: this.#id, signal: this.#signal, log })
  }

  #takeDatabase(dataKey: DataKey): Promise<TakenBaseBackup> {
    const { database, repository, pool, label, clock, log } = this.#o
    if (!database) throw new TypeError('a backup of the database needs a way to it')
    return takeBaseBackup({
      ...database,
      repository,
      pool,
      dataKey,
      id: this.#id,
      label,
      progress: this.#progress,
      signal: this.#signal,
      clock,
      log,
    })
  }

  #markerOf(
    dataKey: DataKey,
    files: Awaited<ReturnType<typeof takeFileSet>> | undefined,
    database: TakenBaseBackup | undefined,
  ): BackupMarker {
    const { kind, label, program, repository, clock } = this.#o
    const objects = [...(database?.objects ?? []), ...(files ? [files.object] : [])]
    return {
      format: formatVersion,
      repositoryId: repository.id,
      id: this.#id,
      kind,
      ...(label === undefined ? {} : { label }),
      program,
      startedAt: this.#startedAt.toISOString(),
      finishedAt: clock.now().toISOString(),
      ...(database ? { database: database.database } : {}),
      ...(files ? { files: { count: files.count, bytes: files.bytes, object: files.object.key } } : {}),
      objects,
      dataKeys: [dataKey.id],
      rawBytes: (database?.rawBytes ?? 0) + (files?.bytes ?? 0),
      storedBytes: objects.reduce((sum, object) => sum + object.bytes, 0),
    }
  }

  /** What was cancelled fails in many ways; the reason is one. */
  #failure(error: unknown): unknown {
    const { lost } = this.#lease
    if (lost.aborted) return lost.reason
    if (this.#o.signal?.aborted)
      return baseBackupError('BACKUP_CANCELLED', { id: this.#id }, { cause: error })
    return error
  }

  async #discard(): Promise<void> {
    try {
      await discardBackup(this.#o.repository, this.#id)
    } catch (error) {
      this.#o.log.warn({ backup: this.#id, err: error }, 'what a failed backup left is removed later')
    }
  }

  async #audit(outcome: BackupEvent['outcome'], facts: Record<string, unknown>): Promise<void> {
    await this.#o.audit?.({ kind: this.#o.kind, id: this.#id, outcome, facts })
  }
}
