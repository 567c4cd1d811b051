import { randomBytes, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type pg from 'pg'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn, type Lsn, parseLsn } from '#lib/lsn.ts'
import { databaseName, superuserName } from '#postgres/server/access.ts'
import type { Binaries } from '#postgres/server/binaries.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'
import { announceReader } from '#storage/readers.ts'
import type { SealPool } from '../envelope/pool.ts'
import { layout } from '../layout.ts'
import { type DrillReport, formatVersion } from '../model.ts'
import type { Repository } from '../repository.ts'
import { restoreError } from '../restore/errors.ts'
import { layDatabase } from '../restore/lay.ts'
import { planRestore, type RestorePlan, timelineToProve } from '../restore/plan.ts'
import { walOf } from '../restore/preview.ts'
import { type Recovered, recover } from '../restore/recover.ts'
import { refuseSmallDisk } from '../restore/room.ts'
import { survey } from '../restore/survey.ts'
import type { RestoreRequest } from '../restore/target.ts'
import { checkRelations, readCanary, writeRow } from './database-checks.ts'
import { drillError } from './errors.ts'
import { checkPages } from './page-check.ts'
import { clearScratch, makeScratch, removeScratch, type Scratch } from './scratch.ts'
import { Steps } from './steps.ts'

/** The running database's canary; absent when there is none, as after a loss. */
export interface DrillCanary {
  write(): Promise<{ sequence: bigint; lsn: Lsn }>
  /** Resolves when the log up to there is where a restore finds it. */
  untilStored(lsn: Lsn): Promise<void>
}

export interface DrillOptions {
  repository: Repository
  pool: SealPool
  /** Without it the newest. */
  backupId?: string | undefined
  /** Root of the archive's spool, if it is on this machine. */
  spool?: string | undefined
  /** Directory for scratch instances; what killed drills left in it is removed. */
  scratch: string
  binaries: Binaries
  runAs?: RunAs | undefined
  canary?: DrillCanary | undefined
  /** Over a superuser's connection to the restored database. */
  checkBooks: (connection: pg.ClientConfig) => Promise<{ ok: boolean; detail: string }>
  signal?: AbortSignal | undefined
  /** Called at the begin of each step, and while files are laid and the log is replayed. */
  onProgress?: ((progress: DrillProgress) => void) | undefined
  withinMs?: number
  log: Log
  clock: Clock
}

export interface DrillProgress {
  step: string
  bytesDone?: number
  bytesTotal?: number
  segmentsDone?: number
  segmentsTotal?: number
}

const readerTtlMs = 120_000
const usualWithinMs = 24 * 3_600_000

/**
 * Proves a backup by restoring it: into a scratch instance that nobody can reach, to the end of the log, with a canary
 * that was written just before. The report is stored, signed, however it went; one step that failed makes it not ok.
 */
export async function drill(options: DrillOptions): Promise<DrillReport> {
  const { clock, log, repository } = options
  const findings = newFindings(options)
  const cleared = await clearScratch(options.scratch, log, clock)
  if (cleared > 0) log.warn({ cleared }, 'what a killed drill had left was removed')
  try {
    await proveBackup(options, findings)
  } catch (error) {
    // A step has it written down; what fails between them has no step.
    if (!findings.steps.failed)
      findings.steps.note({ name: 'drill', ok: false, seconds: 0, detail: (error as Error).message })
    log.error({ err: error, backupId: findings.backupId }, 'the restore drill failed')
  }
  // Whoever called it off did not want to know.
  if (options.signal?.aborted) throw restoreError('RESTORE_CANCELLED', { directory: options.scratch })
  const report = reportOf(options, findings)
  await repository.writeSigned(layout.report('drill', report.id), report)
  log.info({ backupId: report.backupId, ok: report.ok, rtoSeconds: report.rtoSeconds }, 'restore drill ended')
  return report
}

interface Findings {
  steps: Steps
  startedAt: Date
  backupId: string
  rtoSeconds: number
  rpoSeconds?: number
  restoredBytes: number
  laySeconds: number
  replayedSegments: number
  replayedTo?: string
}

function newFindings({ clock, onProgress, backupId, signal }: DrillOptions): Findings {
  return {
    steps: new Steps({ clock, signal, onStep: step => onProgress?.({ step }) }),
    startedAt: clock.now(),
    backupId: backupId ?? 'none',
    rtoSeconds: 0,
    restoredBytes: 0,
    laySeconds: 0,
    replayedSegments: 0,
  }
}

async function proveBackup(options: DrillOptions, findings: Findings): Promise<void> {
  const { repository, log, clock, scratch: root, runAs } = options
  const { steps } = findings
  const written = await writeCanaryFirst(options, steps)
  const reader = await announceReader({
    storage: repository.storage,
    key: layout.reader(randomUUID()),
    holder: `drill on ${hostname()} (pid ${process.pid})`,
    ttlMs: readerTtlMs,
    clock,
    log,
  })
  const scratch = makeScratch(root, runAs)
  try {
    const { plan, recovered } = await restoreInto(scratch, options, findings)
    try {
      await checkRestored(options, findings, { plan, recovered, written })
      await steps.say('stop', async () => {
        await recovered.finish()
        return 'stopped in order'
      })
    } finally {
      await recovered.abandon()
    }
    await checkStoppedPages(options, steps, plan, scratch)
  } finally {
    const remove = async () => {
      await removeScratch(scratch, log, clock)
      return 'nothing is left of it'
    }
    await steps.say('delete', remove, { always: true }).finally(() => reader.close())
  }
}

async function writeCanaryFirst(
  options: DrillOptions,
  steps: Steps,
): Promise<{ sequence: bigint } | undefined> {
  const { canary } = options
  if (!canary) return undefined
  return steps.run('write canary', async () => {
    const row = await canary.write()
    await canary.untilStored(row.lsn)
    return {
      result: row,
      detail: `row ${row.sequence} is in the log before ${formatLsn(row.lsn)}, and stored`,
    }
  })
}

/** From here on the clock of the recovery time runs. */
async function restoreInto(
  scratch: Scratch,
  options: DrillOptions,
  findings: Findings,
): Promise<{ plan: RestorePlan; recovered: Recovered }> {
  const { clock, onProgress } = options
  const { steps } = findings
  const beganMs = clock.monotonicMs()
  const plan = await steps.run('choose', () => choose(options, findings))
  const laid = await steps.run('lay', async () => {
    const { tablespaceDirectory, dataDirectory } = scratch
    const result = await layDatabase({
      ...options,
      backup: plan.backup,
      dataDirectory,
      tablespaceDirectory,
      durable: false,
      onProgress: progress => onProgress?.({ step: 'lay', ...progress }),
    })
    return { result, detail: `${result.files} files as the manifest says, ${result.bytes} bytes` }
  })
  findings.restoredBytes = laid.bytes
  findings.laySeconds = steps.done.at(-1)?.seconds ?? 0
  const startedAt = clock.now()
  const recovered = await steps.run('replay', async () => {
    const result = await recover({
      ...scratch,
      ...options,
      plan,
      wal: walOf(options, plan),
      original: laid.settings,
      durable: false,
      withinMs: options.withinMs ?? usualWithinMs,
      onProgress: progress => onProgress?.({ step: 'replay', ...progress }),
    })
    const detail = `${result.segments} segments to ${formatLsn(result.replayedTo)}, promoted to timeline ${result.timeline}`
    return { result, detail }
  })
  findings.rtoSeconds = (clock.monotonicMs() - beganMs) / 1000
  findings.replayedSegments = recovered.segments
  findings.replayedTo = formatLsn(recovered.replayedTo)
  steps.note(consistency(recovered, startedAt))
  return { plan, recovered }
}

async function choose(
  options: DrillOptions,
  findings: Findings,
): Promise<{ result: RestorePlan; detail: string }> {
  const { backupId, scratch, clock } = options
  const catalogue = await survey(options)
  // Nobody is there to be asked, and nothing is lost: one branch is proven.
  const timeline = timelineToProve(catalogue, backupId)
  const request: RestoreRequest = {
    target: { kind: 'latest' },
    ...(backupId === undefined ? {} : { backupId }),
    ...(timeline === undefined ? {} : { timeline }),
  }
  const plan = planRestore(catalogue, request, clock.now())
  findings.backupId = plan.backup.id
  refuseSmallDisk(scratch, plan.backup.rawBytes)
  const { wal } = plan
  const detail = `${plan.backup.id} and ${wal.segments.length} segments to ${formatLsn(wal.to)}`
  return { result: plan, detail }
}

function consistency({ consistentAt }: Recovered, startedAt: Date) {
  const ok = consistentAt !== undefined
  const seconds = ok ? Math.max(0, (consistentAt.getTime() - startedAt.getTime()) / 1000) : 0
  const detail = ok
    ? 'PostgreSQL found the state consistent'
    : 'PostgreSQL did not say that it was consistent'
  return { name: 'consistent', ok, seconds, detail }
}

async function checkRestored(
  options: DrillOptions,
  findings: Findings,
  restored: { plan: RestorePlan; recovered: Recovered; written: { sequence: bigint } | undefined },
): Promise<void> {
  const { steps } = findings
  const { recovered } = restored
  const connection = recovered.node.connection({ user: superuserName, database: databaseName })
  await steps.say('canary', () => findCanary(findings, connection, restored))
  await steps.say('books', async () => {
    const { ok, detail } = await options.checkBooks(connection)
    if (!ok) throw drillError('DRILL_FOUND', { reason: detail })
    return detail
  })
  await steps.say('amcheck', () => checkRelations(connection))
  await steps.say('write', () => writeRow(connection, findings.startedAt.toISOString()))
}

/** A canary of after the backup shows that the log was replayed; the one just written, that all of it was. */
async function findCanary(
  findings: Findings,
  connection: pg.ClientConfig,
  { plan, written }: { plan: RestorePlan; written: { sequence: bigint } | undefined },
): Promise<string> {
  const canary = await readCanary(connection)
  if (!canary) throw drillError('DRILL_FOUND', { reason: 'there is no canary in the restored database' })
  const { sequence, at, lsn } = canary
  const stop = parseLsn(plan.backup.database.stop) ?? 0n
  if (lsn < stop) {
    const reason = `the newest canary is of ${formatLsn(lsn)}, before the backup's end at ${formatLsn(stop)}`
    throw drillError('DRILL_FOUND', { reason })
  }
  if (written && sequence < written.sequence) {
    const reason = `canary ${written.sequence} was written and stored, ${sequence} came back`
    throw drillError('DRILL_FOUND', { reason })
  }
  findings.rpoSeconds = Math.max(0, (findings.startedAt.getTime() - at.getTime()) / 1000)
  return `row ${sequence} of ${at.toISOString()} came back`
}

async function checkStoppedPages(
  options: DrillOptions,
  steps: Steps,
  plan: RestorePlan,
  scratch: Scratch,
): Promise<void> {
  await steps.say('page checksums', async () => {
    if (!plan.backup.database.checksums) return 'left out: the database was made without page checksums'
    const { pages, files, damaged } = await checkPages(scratch.dataDirectory, options.signal)
    const reason = `pages with a wrong checksum: ${damaged.join(', ')}`
    if (damaged.length > 0) throw drillError('DRILL_FOUND', { reason })
    return `${pages} pages in ${files} files carry their checksum`
  })
}

function reportOf(options: DrillOptions, findings: Findings): DrillReport {
  const { clock, repository } = options
  const { steps, startedAt, backupId, rtoSeconds, rpoSeconds, replayedTo } = findings
  const { restoredBytes, laySeconds, replayedSegments } = findings
  const finishedAt = clock.now()
  const time = startedAt.toISOString().replace(/[-:]|\.\d+/g, '')
  return {
    format: formatVersion,
    repositoryId: repository.id,
    kind: 'drill',
    id: `${time}-${randomBytes(3).toString('hex')}`,
    backupId,
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
    ok: steps.failed === undefined,
    rtoSeconds,
    ...(rpoSeconds === undefined ? {} : { rpoSeconds }),
    restoredBytes,
    megabytesPerSecond: laySeconds > 0 ? restoredBytes / 1e6 / laySeconds : 0,
    replayedSegments,
    ...(replayedTo === undefined ? {} : { replayedTo }),
    steps: steps.done,
  }
}
