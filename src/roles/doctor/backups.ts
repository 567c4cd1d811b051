import { randomUUID } from 'node:crypto'
import { existsSync, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fingerprintOf } from '#backup/keys/age-keys.ts'
import { identityName } from '#backup/keys/identities.ts'
import { recipientName, recipientsOf } from '#backup/keys/recipients.ts'
import { layout } from '#backup/layout.ts'
import { markedBackups } from '#backup/repository/catalog.ts'
import type { Schedule } from '#backup/schedule/policy.ts'
import { callControl } from '#lib/control.ts'
import { Failure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import type { Storage } from '#storage/storage.ts'
import type { ArchiveStatus } from '../archive.ts'
import { type BackupValues, openRepositoryStorage, repositoryUrl, spoolDirectory } from '../backup/open.ts'
import { schedulesOf } from '../backup/schedules.ts'
import { ageText, type Check, gigabytes } from './check.ts'
import { judgeFreshness } from './freshness.ts'
import { keyFilesCheck } from './key-files.ts'

export interface BackupChecksOptions {
  home: Home
  values: BackupValues
  /** Whether `up` runs, and the archive with it. */
  isUp: boolean
  now: Date
}

/** Whether backups are made, can be opened again and reach far enough; changes nothing but a probe in the repository. */
export async function backupChecks(o: BackupChecksOptions): Promise<Check[]> {
  const { home, values } = o
  const live = await readArchive(home)
  const keys = [recoveryKeyCheck(home, values.installation.chain), keyFilesCheck(home)]
  const { check, done } = await lookAtRepository(o)
  const archive = archiveCheck(live, o)
  return [
    ...keys,
    check,
    ...(archive ? [archive] : []),
    spoolCheck(spoolDirectory(values, home), values.backup.spoolLimitMegabytes, live),
    ...freshnessChecks(o, live, done),
  ]
}

async function readArchive(home: Home): Promise<ArchiveStatus | undefined> {
  try {
    return await callControl<ArchiveStatus>({
      path: home.socket('archive'),
      route: '/status',
      timeoutMs: 2_000,
    })
  } catch (error) {
    if (error instanceof Failure) return undefined
    throw error
  }
}

export function recoveryKeyCheck(home: Home, chain: 'simulated' | 'mainnet'): Check {
  const name = 'recovery'
  const mend = 'run `npx moonyetis setup`: it makes the recovery kit'
  try {
    const recipients = recipientsOf(home)
    if (recipients.length === 0)
      return chain === 'simulated'
        ? { name, ok: true, seen: 'its keys are made at the first start, with play money alone' }
        : { name, ok: false, seen: 'there is no recovery key, so nothing is backed up', mend }
    if (chain === 'mainnet' && existsSync(join(home.secrets, identityName))) {
      const moved = `move .secrets/${identityName} off this server: whoever takes the server reads every backup with it`
      return { name, ok: false, seen: 'the recovery identity lies on this server', mend: moved }
    }
    return { name, ok: true, seen: `key ${recipients.map(fingerprintOf).join(', ')}` }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { name, ok: false, seen: error.message, mend }
  }
}

/** When things were last done, as the repository itself tells; for when no archive does. */
interface Done {
  backup?: Date
  drill?: Date
}

async function lookAtRepository(o: BackupChecksOptions): Promise<{ check: Check; done: Done }> {
  const { home, values } = o
  const name = 'repository'
  try {
    const storage = await openRepositoryStorage(values, home, silentLog)
    try {
      await writeProbe(storage, o.now)
      const single = storage.conditional ? '' : ', for one machine alone: it ignores conditional writes'
      return {
        check: { name, ok: true, seen: `${storage.description}${single}` },
        done: await doneIn(storage),
      }
    } finally {
      await storage.close()
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const mend = error.hint ?? 'see backup.repository in `npx moonyetis config print`'
    return {
      check: { name, ok: false, seen: `${repositoryUrl(values, home)}: ${error.message}`, mend },
      done: {},
    }
  }
}

// Named as those of storage/open.ts, which clears away what a killed process leaves.
async function writeProbe(storage: Storage, now: Date): Promise<void> {
  const key = `probe/${String(now.getTime()).padStart(15, '0')}-${randomUUID()}`
  await storage.put(key, [Buffer.from('doctor')])
  await storage.delete([key])
}

async function doneIn(storage: Storage): Promise<Done> {
  const drills: string[] = []
  const prefix = layout.reports('drill')
  for await (const { key } of storage.list(prefix)) drills.push(key.slice(prefix.length))
  const backup = timeOf((await markedBackups(storage)).findLast(id => !id.includes('-files-')))
  const drill = timeOf(drills.at(-1))
  return { ...(backup ? { backup } : {}), ...(drill ? { drill } : {}) }
}

/** Ids begin with their time: `20261124T143000Z-full-1a2b3c`. */
function timeOf(id: string | undefined): Date | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/
    .exec(id ?? '')
    ?.slice(1)
    .map(Number)
  if (!parts) return undefined
  const [year, month, day, hour, minute, second] = parts as [number, number, number, number, number, number]
  return new Date(Date.UTC(year, month - 1, day, hour, minute, second))
}

/** Undefined where nothing runs, so that nothing is missing. */
export function archiveCheck(
  live: ArchiveStatus | undefined,
  o: { home: Home; isUp: boolean; now: Date },
): Check | undefined {
  const name = 'archive'
  const log = `see ${o.home.logs}/server.log`
  if (!live)
    return o.isUp ? { name, ok: false, seen: 'the archive role does not answer', mend: log } : undefined
  const { state, reason, storedLagBytes, storedAt, gaps, slot } = live.archiver
  const stored = storedAt ? `, stored ${ageText(o.now.getTime() - Date.parse(storedAt))} ago` : ''
  const lag = storedLagBytes === null ? '' : `, ${storedLagBytes} bytes not in the repository yet`
  const seen = `${state}${reason ? `: ${reason}` : `${lag}${stored}`}`
  if (state !== 'streaming') return { name, ok: false, seen, mend: log }
  const gap = gaps?.at(-1)
  // A backup that began after it needs nothing of what is missing.
  if (gap && !(live.lastBackup && live.lastBackup.startedAt > gap.noticedAt)) {
    const mend = 'make a new backup: `npx moonyetis backup full`'
    return { name, ok: false, seen: `WAL is missing from ${gap.from} to ${gap.to}`, mend }
  }
  const { keepBytes, leftBytes } = slot
  if (keepBytes && leftBytes !== null && leftBytes < keepBytes / 10) {
    const mend = 'let the archive catch up (is the repository slow?), or raise backup.slotKeepMegabytes'
    return { name, ok: false, seen: `PostgreSQL keeps WAL for ${leftBytes} bytes more only`, mend }
  }
  return { name, ok: true, seen }
}

function spoolCheck(directory: string, limitMegabytes: number, live: ArchiveStatus | undefined): Check {
  const name = 'spool'
  const { bavail, bsize } = statfsSync(nearest(directory))
  const freeBytes = bavail * bsize
  const { segments = 0, bytes = 0, limitBytes = limitMegabytes * 1024 ** 2 } = live?.archiver.spool ?? {}
  const ok = bytes < 0.8 * limitBytes && freeBytes >= Math.min(limitBytes, 1024 ** 3)
  const seen = `${segments} segments wait, ${gigabytes(freeBytes)} GB free in ${directory}`
  return { name, ok, seen, mend: 'bring the repository back, free space there, or move backup.spool' }
}

function nearest(directory: string): string {
  return existsSync(directory) ? directory : nearest(dirname(directory))
}

function freshnessChecks(o: BackupChecksOptions, live: ArchiveStatus | undefined, done: Done): Check[] {
  const [backup, , drill] = schedulesOf(o.values) as [Schedule, Schedule, Schedule]
  const since = setUpAt(o.home)
  const lastDatabase = live?.backups?.find(one => one.kind !== 'files') ?? live?.lastBackup
  const backupAt = lastDatabase ? new Date(lastDatabase.startedAt) : done.backup
  const drillAt = live?.lastDrill ? new Date(live.lastDrill.finishedAt) : done.drill
  const common = since ? { since } : {}
  const checks = [
    {
      name: 'backup',
      schedule: backup,
      ...common,
      ...(backupAt ? { lastAt: backupAt } : {}),
      firstWithinMs: o.values.backup.firstAfterSeconds * 1000,
      mend: 'make one: `npx moonyetis backup full`; logs/backups/backup.log tells why none was made',
    },
    {
      name: 'drill',
      schedule: drill,
      ...common,
      ...(drillAt ? { lastAt: drillAt } : {}),
      ...(live?.lastDrill ? { lastOk: live.lastDrill.ok } : {}),
      mend: 'restore one now: `npx moonyetis backup drill`',
    },
  ]
  return checks.map(one => judgeFreshness(one, o.now))
}

function setUpAt(home: Home): Date | undefined {
  return statSync(join(home.secrets, recipientName), { throwIfNoEntry: false })?.mtime
}
