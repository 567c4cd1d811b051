import { hostname } from 'node:os'
import type { Archiver } from '#backup/archive/archiver.ts'
import type { ArchiverStatus } from '#backup/archive/status.ts'
import type { Canary } from '#backup/canary.ts'
import { type Catalogue, doneAt, lastDrill, summaries } from '#backup/catalogue.ts'
import type { Job, JobKind, Jobs } from '#backup/jobs/jobs.ts'
import type { Scheduler } from '#backup/schedule/scheduler.ts'
import type { BackupStatus } from '#backup/status.ts'
import type { ControlRoutes } from '#lib/control.ts'
import { commonFailure } from '#lib/errors.ts'
import { parseLsn } from '#lib/lsn.ts'
import type { Metrics } from '#lib/metrics.ts'

export type ArchiveStatus = BackupStatus<ArchiverStatus>

export interface ArchiveParts {
  archiver: Archiver
  canary: Canary
  catalogue: Catalogue
  jobs: Jobs
  scheduler: Scheduler
  repository: string
  walMode: 'async' | 'sync'
  metrics: Pick<Metrics, 'render'>
}

// What a page shows; the repository has the rest.
const shownBackups = 100
const shownJobs = 20

export function archiveStatus(parts: ArchiveParts): ArchiveStatus {
  const { archiver, canary, catalogue, jobs, scheduler, repository, walMode } = parts
  const { contents } = catalogue
  const backups = contents ? summaries(contents) : []
  return {
    repository,
    walMode,
    archiver: archiver.status(),
    canary: canary.status(),
    schedule: scheduler.status(),
    running: jobs.running ?? null,
    jobs: jobs.history.slice(0, shownJobs),
    backups: backups.slice(0, shownBackups),
    lastBackup: backups[0] ?? null,
    lastVerified: backups.find(one => one.verifiedAt !== null) ?? null,
    lastDrill: contents ? lastDrill(contents) : null,
  }
}

/** The verbs on run/archive.sock. */
export function archiveRoutes(parts: ArchiveParts): ControlRoutes {
  const { archiver, catalogue, jobs } = parts
  return {
    'GET /status': () => archiveStatus(parts),
    'GET /metrics': async () => ({ text: await parts.metrics.render() }),
    'POST /jobs': body => jobs.start(...readJob(body)),
    'POST /jobs/cancel': async () => {
      const job = jobs.running ?? null
      await jobs.cancel()
      return job
    },
    'GET /jobs': (_body, query) => findJob(jobs, query.get('id') ?? ''),
    'POST /rotate-key': () => archiver.rotateKey(),
    'POST /until-stored': async body => {
      const { lsn, withinMs } = readWait(body)
      await archiver.untilStored(lsn, withinMs)
      return {}
    },
    // A verb that ran without the scheduler tells that the repository has changed.
    'POST /changed': async () => {
      await catalogue.refresh()
      return {}
    },
  }
}

export function holderName(verb: string): string {
  return `${verb} on ${hostname()}, pid ${process.pid}`
}

export function schedulerFacts(parts: Pick<ArchiveParts, 'catalogue' | 'archiver'>) {
  const { contents } = parts.catalogue
  return contents && doneAt(contents, parts.archiver.status().systemIdentifier ?? undefined)
}

function findJob(jobs: Jobs, id: string): Job {
  const job = jobs.find(id)
  if (!job) throw commonFailure('NOT_FOUND', { what: `job ${id}` })
  return job
}

const kinds: readonly string[] = ['full', 'db', 'files', 'drill', 'verify', 'prune'] satisfies JobKind[]

function readJob(body: unknown): [JobKind, string[], string] {
  const { kind, args = [], by } = (body ?? {}) as Record<string, unknown>
  const wrong = (reason: string) => commonFailure('BAD_REQUEST', { reason })
  if (typeof kind !== 'string' || !kinds.includes(kind))
    throw wrong(`kind must be one of ${kinds.join(', ')}`)
  if (!Array.isArray(args) || !args.every(one => typeof one === 'string')) throw wrong('args must be strings')
  if (typeof by !== 'string') throw wrong('by must say who asks')
  return [kind as JobKind, args, by]
}

function readWait(body: unknown): { lsn: bigint; withinMs: number } {
  const { lsn, withinMs } = (body ?? {}) as Record<string, unknown>
  const position = typeof lsn === 'string' ? parseLsn(lsn) : undefined
  if (position === undefined || typeof withinMs !== 'number' || !(withinMs > 0))
    throw commonFailure('BAD_REQUEST', { reason: 'lsn and withinMs are needed' })
  return { lsn: position, withinMs }
}
