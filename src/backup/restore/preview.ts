import type { Log } from '#lib/log.ts'
import { formatLsn } from '#lib/lsn.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { Repository } from '../repository.ts'
import { hasKeys, isKeyMissing } from './keys-here.ts'
import { lastCommitOf, refuseLaterThan } from './last-commit.ts'
import { refuseLivingBranch } from './living-branch.ts'
import { planRestore, type RestorePlan } from './plan.ts'
import { freeBytes, neededBytes } from './room.ts'
import { StoredWal } from './stored-wal.ts'
import { survey } from './survey.ts'
import { describeTarget, type RestoreRequest } from './target.ts'

/** What a restore would do. LSNs are text, times RFC 3339. */
export interface RestorePreview {
  target: string
  backup: { id: string; kind: string; startedAt: string; consistentAt: string; stop: string }
  /** Of the data directory, before the replay. */
  bytes: number
  storedBytes: number
  wal: { from: string; to: string; segments: number; first: string; last: string }
  /** A later part of the log that cannot be reached. */
  hole?: { from: string; to: string; timeline: number }
  /** Timelines in the order of replay. */
  timelines: number[]
  /** The newest commit that the log holds; unknown without its key. */
  lastCommitAt?: string
  files?: { backupId: string; count: number; bytes: number }
  neededBytes: number
  freeBytes: number
  /** Whether all that is encrypted can be opened with the keys that are here. */
  keysHere: boolean
}

export interface PreviewOptions {
  repository: Repository
  pool: SealPool
  request: RestoreRequest
  directory: string
  spool?: string | undefined
  now: Date
}

/**
 * Chooses as a restore would, and writes nothing.
 * @throws as planRestore and refuseLivingBranch
 */
export async function previewRestore(options: PreviewOptions): Promise<RestorePreview> {
  const { repository, directory } = options
  const plan = planRestore(await survey(options), options.request, options.now)
  const keysHere = await hasKeys(repository, plan)
  if (keysHere) await refuseLivingBranch(options, plan)
  const lastCommitAt = await lastCommitIfOpen(options, plan)
  refuseLaterThan(lastCommitAt, plan)
  const { backup, wal, files } = plan
  const { database, rawBytes, storedBytes } = backup
  return {
    target: describeTarget(plan.target),
    backup: {
      id: backup.id,
      kind: backup.kind,
      startedAt: backup.startedAt,
      consistentAt: database.stopTime,
      stop: database.stop,
    },
    bytes: rawBytes,
    storedBytes,
    wal: {
      from: formatLsn(wal.from),
      to: formatLsn(wal.to),
      segments: wal.segments.length,
      first: wal.segments[0] ?? '',
      last: wal.segments.at(-1) ?? '',
    },
    ...(wal.hole
      ? { hole: { ...wal.hole, from: formatLsn(wal.hole.from), to: formatLsn(wal.hole.to) } }
      : {}),
    timelines: plan.path.map(stretch => stretch.timeline).filter(one => one >= database.timeline),
    ...(lastCommitAt ? { lastCommitAt: lastCommitAt.toISOString() } : {}),
    ...(files?.files
      ? { files: { backupId: files.id, count: files.files.count, bytes: files.files.bytes } }
      : {}),
    neededBytes: neededBytes(rawBytes),
    freeBytes: freeBytes(directory),
    keysHere,
  }
}

/** The log that a plan needs. */
export function walOf(
  options: { repository: Repository; pool: SealPool; spool?: string | undefined; log?: Log | undefined },
  plan: RestorePlan,
): StoredWal {
  const { systemIdentifier, segmentBytes } = plan.backup.database
  // An LSN is reached by ending the log there: PostgreSQL's own target needs a later record to know that it is past it.
  const until = plan.target.kind === 'lsn' ? plan.target.lsn : undefined
  const { path, wal: range } = plan
  return new StoredWal({ ...options, systemIdentifier, segmentBytes, path, range, until })
}

async function lastCommitIfOpen(options: PreviewOptions, plan: RestorePlan): Promise<Date | undefined> {
  try {
    return await lastCommitOf(plan, walOf(options, plan))
  } catch (error) {
    if (isKeyMissing(error)) return undefined
    throw error
  }
}
