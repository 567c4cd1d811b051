import { randomUUID } from 'node:crypto'
import { chownSync, mkdirSync, rmSync } from 'node:fs'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { type Home, openHome, syncDirectory, writeDurably } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn } from '#lib/lsn.ts'
import type { Binaries } from '#postgres/server/binaries.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'
import { dataDirectoryOf, logDirectoryOf } from '#postgres/server/places.ts'
import { writeRecoveredFile } from '#postgres/server/recovered-file.ts'
import { announceReader } from '#storage/readers.ts'
import type { SealPool } from '../envelope/pool.ts'
import { backupError } from '../errors.ts'
import { restoreFileSet } from '../files/file-set.ts'
import { layout } from '../layout.ts'
import type { BackupMarker, DatabaseBackup } from '../model.ts'
import type { Repository } from '../repository.ts'
import { restoreError } from './errors.ts'
import { requireKeys } from './keys-here.ts'
import { lastCommitOf, refuseLaterThan } from './last-commit.ts'
import { type Laid, layDatabase } from './lay.ts'
import { refuseLivingBranch } from './living-branch.ts'
import { chooseFiles, planRestore, type RestorePlan } from './plan.ts'
import { walOf } from './preview.ts'
import { type Recovered, recover } from './recover.ts'
import { refuseFilled, refuseSmallDisk } from './room.ts'
import { survey } from './survey.ts'
import { describeTarget, type RestoreRequest } from './target.ts'

export interface RestoreOptions {
  repository: Repository
  pool: SealPool
  request: RestoreRequest
  /** Becomes a home; absent or empty. */
  directory: string
  /** Root of the archive's spool, if it is on this machine. */
  spool?: string | undefined
  binaries: Binaries
  /** Only secrets, certificates and configuration; no database. */
  filesOnly?: boolean
  /** The user that PostgreSQL and the home are for, when this process is root. */
  runAs?: RunAs | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((progress: RestoreProgress) => void) | undefined
  /** For the replay. */
  withinMs?: number
  /** See WalServerOptions. */
  patience?: number
  log: Log
  clock: Clock
}

/** What is not known yet is absent. Bytes and segments never go down within a phase. */
export interface RestoreProgress {
  phase: 'choose' | 'files' | 'lay' | 'replay' | 'finish'
  bytesDone?: number
  bytesTotal?: number
  filesDone?: number
  segmentsDone?: number
  segmentsTotal?: number
}

/** LSNs are text, times RFC 3339. */
export interface RestoreResult {
  directory: string
  backupId: string
  target: string
  replayedTo?: string
  lastCommitAt?: string
  timeline?: number
  segments?: number
  files?: { backupId: string; count: number }
  bytes: number
  seconds: number
  megabytesPerSecond: number
  nextSteps: string[]
}

const incompleteName = 'RESTORE_INCOMPLETE'

// Long enough for a storage that is away for a while; a dead reader keeps a prune waiting for this long.
const readerTtlMs = 120_000
// A log of weeks takes hours; who knows better cancels.
const usualWithinMs = 7 * 24 * 3_600_000

/**
 * Restores a backup into an empty directory, which becomes a home that `npm start` can run. Until it is whole it says
 * so in a file RESTORE_INCOMPLETE and cannot be started.
 * @throws RESTORE_* and BACKUP_* rows, STORAGE_* rows
 */
export async function restore(options: RestoreOptions): Promise<RestoreResult> {
  const { repository, clock, log } = options
  const directory = resolve(options.directory)
  refuseFilled(directory)
  const id = randomUUID()
  const holder = `restore to ${directory} on ${hostname()} (pid ${process.pid})`
  const key = layout.reader(id)
  const reader = await announceReader({
    storage: repository.storage,
    key,
    holder,
    ttlMs: readerTtlMs,
    clock,
    log,
  })
  try {
    return await (options.filesOnly ? restoreFilesOnly : restoreAll)({ ...options, directory })
  } finally {
    await reader.close()
  }
}

async function restoreAll(options: RestoreOptions): Promise<RestoreResult> {
  const { directory, clock, onProgress, log } = options
  const beganMs = clock.monotonicMs()
  onProgress?.({ phase: 'choose' })
  const plan = planRestore(await survey(options), options.request, clock.now())
  refuseOtherVersion(plan.backup, options.binaries)
  refuseSmallDisk(directory, plan.backup.rawBytes)
  await requireKeys(options.repository, plan)
  await refuseLivingBranch(options, plan)
  const wal = walOf(options, plan)
  if (plan.target.kind === 'time') refuseLaterThan(await lastCommitOf(plan, wal), plan)
  log.info({ backupId: plan.backup.id, target: describeTarget(plan.target), directory }, 'restore began')
  const home = beginHome(options, plan.backup)
  const files = await layFiles(options, plan.files, home)
  const { laid, recovered } = await layAndReplay(options, plan, wal, home)
  onProgress?.({ phase: 'finish' })
  await recovered.finish()
  endHome(home)
  const seconds = (clock.monotonicMs() - beganMs) / 1000
  log.info({ backupId: plan.backup.id, seconds, directory }, 'restore finished')
  const { replayedTo, timeline, segments, lastCommitAt } = recovered
  return {
    ...resultOf(options, { marker: plan.backup, bytes: laid.bytes, seconds, files }),
    target: describeTarget(plan.target),
    replayedTo: formatLsn(replayedTo),
    timeline,
    segments,
    ...(lastCommitAt ? { lastCommitAt: lastCommitAt.toISOString() } : {}),
  }
}

async function layAndReplay(
  options: RestoreOptions,
  plan: RestorePlan,
  wal: ReturnType<typeof walOf>,
  home: Home,
): Promise<{ laid: Laid; recovered: Recovered }> {
  const { onProgress, signal, runAs, clock } = options
  const dataDirectory = dataDirectoryOf(home)
  const laid = await layDatabase({
    ...options,
    backup: plan.backup,
    dataDirectory,
    tablespaceDirectory: join(home.postgres, 'tablespaces'),
    durable: true,
    onProgress: progress => onProgress?.({ phase: 'lay', ...progress }),
  })
  // Before anything can start on it: what players have seen must not come back to life.
  writeRecoveredFile(dataDirectory, {
    id: randomUUID(),
    at: clock.now().toISOString(),
    cause: 'backup restore',
    target: describeTarget(plan.target),
    backupId: plan.backup.id,
  })
  const recovered = await recover({
    dataDirectory,
    plan,
    wal,
    original: laid.settings,
    binaries: options.binaries,
    runAs,
    logDirectory: logDirectoryOf(home),
    durable: true,
    withinMs: options.withinMs ?? usualWithinMs,
    ...(options.patience === undefined ? {} : { patience: options.patience }),
    signal,
    onProgress: progress => onProgress?.({ phase: 'replay', ...progress }),
    log: options.log,
    clock,
  })
  return { laid, recovered }
}

async function restoreFilesOnly(options: RestoreOptions): Promise<RestoreResult> {
  const { repository, request, clock } = options
  const beganMs = clock.monotonicMs()
  const marker = await filesFor(repository, request)
  // Before anything is made: who is asked for the key then tries again into the same directory.
  for (const id of marker.dataKeys) await repository.dataKey(id)
  const home = beginHome(options, marker)
  const files = await layFiles(options, marker, home)
  endHome(home)
  const seconds = (clock.monotonicMs() - beganMs) / 1000
  return resultOf(options, { marker, bytes: marker.files?.bytes ?? 0, seconds, files })
}

/** @throws BACKUP_NOT_FOUND */
async function filesFor(repository: Repository, request: RestoreRequest): Promise<BackupMarker> {
  const backups = await repository.backups()
  const { backupId, target } = request
  const at = target.kind === 'time' ? target.at : undefined
  const found =
    backupId === undefined
      ? chooseFiles(backups, at)
      : backups.find(one => one.id === backupId && one.files !== undefined)
  const what = backupId === undefined ? 'with files' : `${backupId} with files`
  if (!found) throw backupError('BACKUP_NOT_FOUND', { what, repository: repository.storage.description })
  return found
}

async function layFiles(
  options: RestoreOptions,
  marker: BackupMarker | undefined,
  home: Home,
): Promise<RestoreResult['files']> {
  if (!marker) return undefined
  const { repository, runAs: owner, onProgress } = options
  onProgress?.({ phase: 'files', filesDone: 0 })
  const { count } = await restoreFileSet({ repository, marker, to: home.root, owner })
  onProgress?.({ phase: 'files', filesDone: count })
  return { backupId: marker.id, count }
}

/** Says first of all that nothing here is whole. */
function beginHome({ directory, runAs, clock }: RestoreOptions, marker: BackupMarker): Home {
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  // What openHome makes then belongs to the owner of the directory.
  if (runAs) chownSync(directory, runAs.uid, runAs.gid)
  const text = `The restore of backup ${marker.id} began at ${clock.now().toISOString()} and has not ended.
Nothing here can be started. Remove the directory, or restore again into another one.
`
  writeDurably(join(directory, incompleteName), text, 0o644)
  return openHome(directory)
}

function endHome(home: Home): void {
  rmSync(join(home.root, incompleteName))
  syncDirectory(home.root)
}

function refuseOtherVersion(backup: DatabaseBackup, binaries: Binaries): void {
  const found = Math.floor(backup.database.serverVersion / 10_000)
  if (found === binaries.major) return
  const wanted = binaries.version
  throw restoreError('RESTORE_VERSION_MISMATCH', { backupId: backup.id, found, wanted })
}

function resultOf(
  { directory, filesOnly = false }: RestoreOptions,
  facts: { marker: BackupMarker; bytes: number; seconds: number; files: RestoreResult['files'] },
): RestoreResult {
  const { marker, bytes, seconds, files } = facts
  return {
    directory,
    backupId: marker.id,
    target: 'files',
    ...(files ? { files } : {}),
    bytes,
    seconds,
    megabytesPerSecond: seconds > 0 ? bytes / 1e6 / seconds : 0,
    nextSteps: nextSteps(directory, { filesOnly, files: files !== undefined }),
  }
}

function nextSteps(directory: string, o: { filesOnly: boolean; files: boolean }): string[] {
  // Started, it would become a home with an empty database.
  if (o.filesOnly)
    return ['Take from there what is missing. It is no home to be started: it has no database.']
  const byHand = 'No backup of files was found: secrets and configuration have to be put there by hand.'
  return [`MOONYETIS_HOME=${directory} npm start`, ...(o.files ? [] : [byHand])]
}
