import { hostname } from 'node:os'
import { join } from 'node:path'
import { Archiver } from '#backup/archive/archiver.ts'
import { Canary } from '#backup/canary.ts'
import { Catalogue } from '#backup/catalogue.ts'
import { clearScratch } from '#backup/drill/scratch.ts'
import { type Job, Jobs } from '#backup/jobs/jobs.ts'
import { backupMetrics } from '#backup/metrics.ts'
import { Scheduler } from '#backup/schedule/scheduler.ts'
import { systemClock } from '#lib/clock.ts'
import { serveControl } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'
import { Lifecycle, onShutdown } from '#lib/lifecycle.ts'
import { createLog, type Log } from '#lib/log.ts'
import { createMetrics, type Metrics } from '#lib/metrics.ts'
import { removeRecord, writeRecord } from '#lib/processes.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openJobLog } from './archive/job-log.ts'
import { type ArchiveParts, archiveRoutes, archiveStatus, schedulerFacts } from './archive/role.ts'
import { replicationTarget, sqlTarget } from './backup/connect.ts'
import {
  loadBackupConfig,
  type OpenBackup,
  openBackup,
  scratchDirectory,
  spoolDirectory,
} from './backup/open.ts'
import { schedulesOf } from './backup/schedules.ts'
import type { Context } from './program.ts'

export type { ArchiveStatus } from './archive/role.ts'

const slot = 'moonyetis_archive'
const megabyte = 1024 * 1024
// A backup, a check or a drill tells by itself; this finds what others do.
const lookEveryMs = 10 * 60_000

/**
 * The role that archives the write-ahead log and starts backups, drills and checks when they are due. It does nothing
 * heavy itself: those are processes of their own, so that the acknowledgement of WAL never waits for them.
 */
export async function archive(context: Context): Promise<void> {
  const values = loadBackupConfig(context)
  const home = context.openHome()
  const log = createLog({
    role: 'archive',
    level: values.log.level,
    fallbackFile: join(home.logs, 'orphans.log'),
  })
  const lifecycle = new Lifecycle({ log })
  const stopped = untilSignal(lifecycle, log)
  await lifecycle.open(
    'process record',
    () => writeRecord(home, 'archive', process.pid),
    () => removeRecord(home, 'archive'),
  )
  const backup = await lifecycle.open(
    'repository',
    () => openBackup(context, { for: 'write', log }),
    async one => one[Symbol.asyncDispose](),
  )
  const parts = await openParts(context, lifecycle, backup, log)
  await lifecycle.open(
    'control socket',
    () => serveControl({ path: home.socket('archive'), routes: archiveRoutes(parts), log }),
    control => control.close(),
  )
  await stopped.finally(() => lifecycle.close())
}

async function openParts(
  context: Context,
  lifecycle: Lifecycle,
  backup: OpenBackup,
  log: Log,
): Promise<ArchiveParts> {
  const { home, values, repository } = backup
  const catalogue = new Catalogue({ repository, everyMs: lookEveryMs, log })
  const metrics = createMetrics()
  const told = backupMetrics(metrics)
  const jobLog = await lifecycle.open(
    'job log',
    () => openJobLog(home),
    one => one.close(),
  )
  const jobs = newJobs(context, home, log, {
    ended: job => {
      jobLog.write(job)
      told.ended(job)
      void catalogue.refresh()
      scheduler.ended(job)
      // What was just found whole makes older ones dispensable.
      if (job.kind === 'verify' && job.state === 'done' && job.by === 'schedule')
        jobs.start('prune', [], 'schedule')
    },
  })
  const archiver = newArchiver(backup, metrics, log, reason => scheduler.heal(reason))
  const scheduler = new Scheduler({
    home,
    schedules: schedulesOf(values),
    firstAfterMs: values.backup.firstAfterSeconds * 1000,
    verifyEveryDays: values.backup.verifyEveryDays,
    jobs,
    doneAt: () => schedulerFacts({ catalogue, archiver }),
    clock: systemClock,
    log,
  })
  const canary = new Canary({
    target: () => sqlTarget(home, values),
    everyMs: values.backup.canarySeconds * 1000,
    clock: systemClock,
    log,
  })
  // What a killed drill left running; nobody waits for it.
  void clearScratch(scratchDirectory(values, home), log, systemClock).catch(error =>
    log.warn({ err: error }, 'what a killed drill left could not be removed'),
  )
  await lifecycle.open(
    'catalogue',
    () => catalogue.start(),
    () => catalogue.close(),
  )
  // Stops after the canary and the jobs: what they wrote is still archived.
  await lifecycle.open(
    'WAL archive',
    () => archiver.start(),
    () => archiver.stop(),
    20_000,
  )
  await lifecycle.open(
    'jobs',
    () => jobs,
    one => one.cancel(),
    20_000,
  )
  await lifecycle.open(
    'scheduler',
    () => scheduler.start(),
    () => scheduler.close(),
  )
  await lifecycle.open(
    'canary',
    () => canary.start(),
    () => canary.close(),
  )
  const { walMode } = values.backup
  const place = { repository: backup.storage.description, walMode }
  const parts: ArchiveParts = { archiver, canary, catalogue, jobs, scheduler, metrics, ...place }
  told.watch(() => archiveStatus(parts), systemClock.now)
  return parts
}

function newJobs(context: Context, home: Home, log: Log, on: { ended: (job: Job) => void }): Jobs {
  return new Jobs({
    command: [process.execPath, ...process.execArgv, join(context.programRoot, 'src', 'main.ts')],
    env: { ...context.env, MOONYETIS_HOME: home.root },
    cwd: home.root,
    clock: systemClock,
    log,
    onEnd: on.ended,
  })
}

function newArchiver(
  backup: OpenBackup,
  metrics: Metrics,
  log: Log,
  heal: (reason: string) => void,
): Archiver {
  const { home, values, repository, pool } = backup
  const { spoolLimitMegabytes, slotKeepMegabytes, tailSeconds } = values.backup
  return new Archiver({
    connect: async () =>
      ReplicationConnection.open(await replicationTarget(home, values), { applicationName: 'archive' }),
    repository,
    pool,
    spoolDirectory: spoolDirectory(values, home),
    slot,
    slotKeepBytes: slotKeepMegabytes * megabyte,
    spoolLimitBytes: spoolLimitMegabytes * megabyte,
    tailEveryMs: tailSeconds * 1000,
    clock: systemClock,
    log,
    metrics,
    onGap: gap => heal(`WAL is missing from ${gap.from} to ${gap.to}`),
    holder: `${hostname()} ${home.root}`,
  })
}

function untilSignal(lifecycle: Lifecycle, log: Log): Promise<void> {
  return new Promise(resolve => {
    onShutdown(['SIGTERM', 'SIGINT', 'SIGHUP'], (signal, count) => {
      log.info({ signal, count }, 'stop was asked for')
      if (count > 1) lifecycle.hurry()
      resolve()
    })
  })
}
