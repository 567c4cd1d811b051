import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readContents, summaries } from '#backup/catalogue.ts'
import { layout } from '#backup/layout.ts'
import { formatVersion, type Pin, type RemovalReport, type VerifyReport } from '#backup/model.ts'
import type { TimelineHistories, TimelineView } from '#backup/retention/branches.ts'
import { planRetention, type RetentionPlan } from '#backup/retention/policy.ts'
import { prune } from '#backup/retention/prune.ts'
import type { BackupSummary } from '#backup/status.ts'
import { readParents } from '#backup/verify/stored-log.ts'
import { type VerifyProgress, verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { callControl } from '#lib/control.ts'
import { commonFailure, Failure } from '#lib/errors.ts'
import { type Home, writeDurably } from '#lib/home.ts'
import { isKey } from '#storage/keys.ts'
import { acquireLease, type Lease } from '#storage/lease.ts'
import { liveReaders } from '#storage/readers.ts'
import { holderName } from '../archive/role.ts'
import type { ArchiveStatus } from '../archive.ts'
import type { OpenBackup } from './open.ts'

export async function listBackups({ repository }: OpenBackup): Promise<{
  repository: string
  trust: string
  backups: BackupSummary[]
  damaged: { object: string; reason: string }[]
}> {
  const contents = await readContents(repository)
  return {
    repository: repository.storage.description,
    trust: repository.trust.warning ?? repository.trust.by,
    backups: summaries(contents),
    damaged: contents.damaged,
  }
}

/** Verifies and, for the whole repository, writes the report that the next check compares with. */
export async function verifyRepository(
  backup: OpenBackup,
  o: {
    id?: string
    open: boolean
    everyDays?: number
    signal: AbortSignal
    onProgress: (progress: VerifyProgress) => void
  },
): Promise<VerifyReport> {
  const { repository, pool, home } = backup
  const report = await verify({
    repository,
    ...(o.id === undefined ? {} : { id: o.id }),
    ...(o.open ? { pool } : {}),
    ...(o.everyDays === undefined ? {} : { everyDays: o.everyDays }),
    known: { ...knownReport(home), ...(await knownLog(home)) },
    clock: systemClock,
    signal: o.signal,
    onProgress: o.onProgress,
  })
  // A bare machine can look, but has no key to sign with.
  if (repository.trust.by === 'home') {
    const key = layout.report('verify', report.id)
    await repository.writeSigned(key, report)
    if (o.id === undefined) rememberReport(home, key)
    await tellArchive(home)
  }
  return report
}

const stateFile = (home: Home) => join(home.state, 'backup-verify.json')

function knownReport(home: Home): { lastReport?: string } {
  try {
    const { lastReport } = JSON.parse(readFileSync(stateFile(home), 'utf8')) as { lastReport?: string }
    return lastReport === undefined ? {} : { lastReport }
  } catch {
    // Never written, or unreadable: then the repository's own reports are compared with.
    return {}
  }
}

function rememberReport(home: Home, lastReport: string): void {
  mkdirSync(home.state, { recursive: true, mode: 0o700 })
  writeDurably(stateFile(home), JSON.stringify({ lastReport }))
}

/** What the archive of this home knows to have stored; nothing while it does not run. */
async function knownLog(home: Home): Promise<{ walThrough?: VerifyReport['walThrough'] }> {
  const status = await archiveStatus(home)
  const { systemIdentifier, timeline, storedLsn } = status?.archiver ?? {}
  if (!systemIdentifier || !timeline || !storedLsn) return {}
  return { walThrough: [{ systemIdentifier, timeline, end: storedLsn }] }
}

export async function archiveStatus(home: Home): Promise<ArchiveStatus | undefined> {
  return callControl<ArchiveStatus>({ path: home.socket('archive'), route: '/status' }).catch(() => undefined)
}

/** A live archive shows what changed at once instead of at its next look. */
export async function tellArchive(home: Home): Promise<void> {
  await callControl({ path: home.socket('archive'), route: '/changed', method: 'POST' }).catch(() => {})
}

export async function planPruning(backup: OpenBackup): Promise<RetentionPlan> {
  const { repository, storage, home, values, log } = backup
  const contents = await readContents(repository)
  const histories: Map<string, TimelineHistories> = new Map()
  for (const system of new Set(contents.backups.flatMap(one => one.database?.systemIdentifier ?? []))) {
    const onUnreadable = (key: string, err: unknown) => log.warn({ err, key }, 'a history cannot be read')
    histories.set(system, await readParents(repository, system, onUnreadable))
  }
  const status = await archiveStatus(home)
  const readers = await liveReaders(storage, layout.readers, systemClock)
  return planRetention(
    {
      backups: contents.backups,
      verified: new Set(contents.verifiedAt.keys()),
      pinned: new Set(contents.pins.keys()),
      histories,
      living: livingOf(status),
      receiverStale: whyStale(status, values.backup.tailSeconds),
      readers: readers.map(one => one.holder),
    },
    values.backup,
    systemClock.now(),
  )
}

/** What the archive follows. */
function livingOf(status: ArchiveStatus | undefined): TimelineView['living'] {
  const { systemIdentifier: system, timeline } = status?.archiver ?? {}
  return system && timeline ? { system, timeline } : undefined
}

/** The log must have come within three rounds of the tail, or nothing at all is outstanding. */
function whyStale(status: ArchiveStatus | undefined, tailSeconds: number): string | undefined {
  if (!status) return 'the archive role does not run'
  const { state, reason, storedLsn, serverLsn, storedAt } = status.archiver
  if (state !== 'streaming') return reason || state
  if (storedLsn !== null && storedLsn === serverLsn) return undefined
  const age = storedAt === null ? Number.POSITIVE_INFINITY : (Date.now() - Date.parse(storedAt)) / 1000
  return age > Math.max(60, 3 * tailSeconds) ? `nothing was stored for ${Math.round(age)} s` : undefined
}

export async function pruneRepository(
  backup: OpenBackup,
  plan: RetentionPlan,
  o: { by: string; signal: AbortSignal; onProgress: Parameters<typeof prune>[0]['onProgress'] },
): Promise<RemovalReport> {
  const { repository, home } = backup
  await using lease = await leaseOf(backup, 'backup', 'prune', o.signal)
  const report = await prune({
    repository,
    plan,
    keepDays: backup.values.backup.keepDays,
    lease,
    by: o.by,
    clock: systemClock,
    signal: o.signal,
    ...(o.onProgress ? { onProgress: o.onProgress } : {}),
  })
  await tellArchive(home)
  return report
}

// Two missed renewals of a slow store and a margin.
const leaseTtlMs = 60_000

/** Backups and pruning share one lease: nothing is removed while something is added. @throws BACKUP_BUSY */
async function leaseOf(
  { storage, log }: OpenBackup,
  name: string,
  verb: string,
  signal: AbortSignal,
): Promise<Lease & AsyncDisposable> {
  try {
    const prefix = layout.locks(name)
    const holder = holderName(verb)
    const lease = await acquireLease({
      storage,
      prefix,
      holder,
      ttlMs: leaseTtlMs,
      clock: systemClock,
      log,
      signal,
    })
    return Object.assign(lease, { [Symbol.asyncDispose]: () => lease.release() })
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'LEASE_HELD') throw error
    const { backupError } = await import('#backup/errors.ts')
    const { holder, since } = error.facts
    throw backupError(
      'BACKUP_BUSY',
      { what: 'the repository', holder, since, leaseSeconds: leaseTtlMs / 1000 },
      { cause: error },
    )
  }
}

/** A pinned backup stays, with the log it needs, until it is unpinned. */
export async function pin(backup: OpenBackup, id: string, reason: string): Promise<void> {
  const { repository } = backup
  await repository.backup(id)
  const body: Pin = {
    format: formatVersion,
    repositoryId: repository.id,
    backupId: id,
    reason,
    at: systemClock.now().toISOString(),
  }
  if (!(await repository.writeSigned(layout.pin(id), body)))
    throw commonFailure('REFUSED', { reason: `${id} is pinned already.` })
  await tellArchive(backup.home)
}

export async function unpin(backup: OpenBackup, id: string, by: string): Promise<void> {
  const { repository, storage } = backup
  const key = layout.pin(id)
  if (!isKey(key) || !(await storage.head(key))) throw commonFailure('NOT_FOUND', { what: `pin of ${id}` })
  const at = systemClock.now().toISOString()
  const report: RemovalReport = {
    format: formatVersion,
    repositoryId: repository.id,
    kind: 'removal',
    id: `${at.replace(/[-:]/g, '').replace(/\.\d+/, '')}-unpin`,
    at,
    by,
    reason: 'unpin',
    backups: [],
    objects: [key],
    walRemoved: [],
    freedBytes: 0,
  }
  await repository.writeSigned(layout.report('removal', report.id), report)
  await storage.delete([key])
  await tellArchive(backup.home)
}
