import { randomBytes } from 'node:crypto'
import type { Clock } from '#lib/clock.ts'
import { commonFailure } from '#lib/errors.ts'
import { formatLsn, type Lsn, parseLsn, parseSegmentName, segmentStart } from '#lib/lsn.ts'
import type { Lease } from '#storage/lease.ts'
import { liveReaders } from '#storage/readers.ts'
import { layout } from '../layout.ts'
import { type BackupMarker, formatVersion, type RemovalReport } from '../model.ts'
import type { Repository } from '../repository.ts'
import { expiredReports } from './old-reports.ts'
import type { Decision, RetentionPlan } from './policy.ts'
import { unusedKeys } from './unused-keys.ts'

export interface PruneOptions {
  repository: Repository
  plan: RetentionPlan
  /** The recovery window: reports are kept a month longer. */
  keepDays: number
  /** Held while objects go, and looked at before each backup. */
  lease: Pick<Lease, 'check'>
  by: string
  clock: Clock
  signal?: AbortSignal
  onProgress?: (progress: {
    backups: number
    backupsTotal: number
    segments: number
    freedBytes: number
  }) => void
}

// A position that cannot be read must keep everything.
const everything: Lsn = 0xffff_ffff_ffff_ffffn
// One request of S3 deletes up to 1,000 keys.
const batch = 500

/**
 * Removes what the plan says, the completion marker of each backup first: whenever this ends, no backup looks complete
 * that is not. What was removed is written down, so that the next check misses nothing that went on purpose.
 */
export async function prune(o: PruneOptions): Promise<RemovalReport> {
  const { repository } = o
  const removal = emptyReport(o)
  try {
    await removeAll(o, removal)
  } finally {
    // Also of a half-done pruning: what is gone is gone on purpose.
    if (removal.backups.length + removal.walRemoved.length + removal.objects.length > 0)
      await repository.writeSigned(layout.report('removal', removal.id), removal)
  }
  return removal
}

function emptyReport({ clock, repository, by }: PruneOptions): RemovalReport {
  const at = clock.now().toISOString()
  const id = `${at.replace(/[-:]/g, '').replace(/\.\d+/, '')}-${randomBytes(3).toString('hex')}`
  const nothing = { backups: [], objects: [], walRemoved: [], freedBytes: 0 }
  return {
    format: formatVersion,
    repositoryId: repository.id,
    kind: 'removal',
    id,
    at,
    by,
    reason: 'retention',
    ...nothing,
  }
}

async function removeAll(o: PruneOptions, removal: RemovalReport): Promise<void> {
  const { plan, repository, lease } = o
  let segments = 0
  const freed = (bytes: number, segmentsMore: number) => {
    removal.freedBytes += bytes
    segments += segmentsMore
    const { freedBytes, backups } = removal
    o.onProgress?.({ backups: backups.length, backupsTotal: plan.remove.length, segments, freedBytes })
  }
  for (const { backup } of plan.remove) {
    o.signal?.throwIfAborted()
    await lease.check()
    await refuseLate(o)
    removal.backups.push(backup.id)
    freed(await removeBackup(repository, backup), 0)
  }
  removal.objects.push(...(await removeKeys(repository, plan)))
  for (const [system, before] of plan.walNeededFrom) {
    await lease.check()
    await refuseLate(o)
    const facts = await removeLog(o, system, before, bytes => freed(bytes, 1))
    if (facts.segments > 0) removal.walRemoved.push(facts)
  }
  await removeSmall(o, removal)
}

/** What serves nothing any more once backups and log have gone: reports that are old, and data keys of what went. */
async function removeSmall(o: PruneOptions, removal: RemovalReport): Promise<void> {
  const { repository, keepDays, lease, signal } = o
  const now = o.clock.now()
  const keys = await unusedKeys(repository, { now, ...(signal ? { signal } : {}) })
  const reports = await expiredReports(repository, { keepDays, now })
  await lease.check()
  await refuseLate(o)
  removal.objects.push(...keys, ...reports)
  await removeObjects(repository, [...keys, ...reports])
}

/** Whoever reads or pins since the plan was made is not in it. @throws REFUSED */
async function refuseLate({ repository: { storage }, plan, clock }: PruneOptions): Promise<void> {
  const [reader] = await liveReaders(storage, layout.readers, clock)
  if (reader)
    throw commonFailure('REFUSED', { reason: `A restore reads from the repository: ${reader.holder}.` })
  for (const { backup } of plan.remove)
    if (await storage.head(layout.pin(backup.id)))
      throw commonFailure('REFUSED', { reason: `${backup.id} was pinned meanwhile.` })
}

async function removeBackup(repository: Repository, backup: BackupMarker): Promise<number> {
  const { storage } = repository
  await storage.delete([layout.complete(backup.id)])
  let bytes = 0
  const keys: string[] = []
  for await (const one of storage.list(layout.backup(backup.id))) {
    keys.push(one.key)
    bytes += one.bytes
  }
  await removeObjects(repository, keys)
  return bytes
}

async function removeObjects({ storage }: Repository, keys: readonly string[]): Promise<void> {
  for (let i = 0; i < keys.length; i += batch) await storage.delete(keys.slice(i, i + batch))
}

/**
 * Without its data key, a copy of a removed backup that somebody kept is noise. A backup that brought its own log sealed
 * it with the same key: that stays for as long as a kept backup is rolled forward through this log.
 */
async function removeKeys(repository: Repository, plan: RetentionPlan): Promise<string[]> {
  const used = new Set(plan.keep.flatMap(({ backup }) => backup.dataKeys))
  const isDone = ({ backup: { database } }: Decision) =>
    !database ||
    segmentStart((parseLsn(database.stop) ?? everything) - 1n, database.segmentBytes) <
      (plan.walNeededFrom.get(database.systemIdentifier) ?? 0n)
  const unused = plan.remove
    .filter(isDone)
    .flatMap(({ backup }) => backup.dataKeys)
    .filter(id => !used.has(id))
  const gone: string[] = []
  for (const id of new Set(unused)) {
    for await (const { key } of repository.storage.list(`${layout.dataKeys}${id}/`)) gone.push(key)
  }
  await removeObjects(repository, gone)
  return gone
}

/** WAL and pieces of it that end at or before the position. Histories stay: they are small and tell how timelines hang together. */
async function removeLog(
  o: PruneOptions,
  system: string,
  before: Lsn,
  onFreed: (bytes: number) => void,
): Promise<RemovalReport['walRemoved'][number]> {
  const { repository, plan } = o
  const size = segmentBytesOf(plan, system)
  let segments = 0
  const facts = () => ({ systemIdentifier: system, before: formatLsn(before), segments })
  const remove = async (keys: string[]) => {
    o.signal?.throwIfAborted()
    await repository.storage.delete(keys)
    segments += keys.length
  }
  for (const prefix of [
    ...(await repository.timelines(system)).map(one => layout.timeline(system, one)),
    layout.tails(system),
  ]) {
    let keys: string[] = []
    for await (const { key, bytes } of repository.storage.list(prefix)) {
      const name = key.split('/').find(part => /^[0-9A-F]{24}$/.test(part)) ?? ''
      const parsed = parseSegmentName(name, size)
      if (!parsed || parsed.start + BigInt(size) > before) continue
      keys.push(key)
      onFreed(bytes)
      if (keys.length < batch) continue
      await remove(keys)
      keys = []
    }
    if (keys.length > 0) await remove(keys)
  }
  return facts()
}

function segmentBytesOf(plan: RetentionPlan, system: string): number {
  const known = [...plan.keep, ...plan.remove].find(one => one.backup.database?.systemIdentifier === system)
  return known?.backup.database?.segmentBytes ?? 16 * 1024 * 1024
}
