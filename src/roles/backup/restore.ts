import { Journal } from '#audit/journal.ts'
import { writeCanary } from '#backup/canary.ts'
import { type DrillProgress, drill } from '#backup/drill/drill.ts'
import { backupError } from '#backup/errors.ts'
import type { DrillReport } from '#backup/model.ts'
import { previewRestore, type RestorePreview } from '#backup/restore/preview.ts'
import { type RestoreProgress, type RestoreResult, restore } from '#backup/restore/restore.ts'
import type { RestoreRequest } from '#backup/restore/target.ts'
import { reconcile } from '#ledger/reconcile.ts'
import { systemClock } from '#lib/clock.ts'
import { callControl } from '#lib/control.ts'
import { formatLsn } from '#lib/lsn.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import { type Binaries, findBinaries } from '#postgres/server/binaries.ts'
import type { Context } from '../program.ts'
import { sqlTarget } from './connect.ts'
import { archiveStatus, tellArchive } from './look.ts'
import { type OpenBackup, scratchDirectory, spoolDirectory } from './open.ts'
import { actor } from './words.ts'

export interface RestoreJob {
  request: RestoreRequest
  directory: string
  filesOnly: boolean
  signal: AbortSignal
  onProgress: (progress: RestoreProgress) => void
}

export async function restoreBackup(
  context: Context,
  backup: OpenBackup,
  o: RestoreJob,
): Promise<RestoreResult> {
  const { home, repository, pool, log } = backup
  const result = await restore({
    repository,
    pool,
    request: o.request,
    directory: o.directory,
    spool: spoolDirectory(backup.values, home),
    binaries: binariesOf(context, backup),
    filesOnly: o.filesOnly,
    signal: o.signal,
    onProgress: o.onProgress,
    log,
    clock: systemClock,
  })
  const journal = new Journal({ home })
  try {
    const { directory, backupId, target } = result
    journal.record({
      actor: actor(),
      action: 'backup.restored',
      target: backupId,
      detail: { directory, target },
    })
  } finally {
    journal.close()
  }
  return result
}

export function preview(
  backup: OpenBackup,
  o: { request: RestoreRequest; directory: string },
): Promise<RestorePreview> {
  const { home, repository, pool, values } = backup
  return previewRestore({
    repository,
    pool,
    request: o.request,
    directory: o.directory,
    spool: spoolDirectory(values, home),
    now: systemClock.now(),
  })
}

// The canary waits for a commit, and with a synchronous archive for its flush; the log follows within a tail.
const storedWithinMs = 120_000

export async function drillBackup(
  context: Context,
  backup: OpenBackup,
  o: { id?: string; signal: AbortSignal; onProgress: (progress: DrillProgress) => void },
): Promise<DrillReport> {
  const { home, repository, pool, log, values } = backup
  // The report is signed: better refused now than when all is done.
  if (repository.trust.by !== 'home')
    throw backupError('REPOSITORY_READ_ONLY', { repository: repository.storage.description })
  // A slip of the finger is no failed drill: that would be stored, signed, and alarm people.
  if (o.id !== undefined) await repository.backup(o.id)
  const report = await drill({
    repository,
    pool,
    backupId: o.id,
    spool: spoolDirectory(values, home),
    scratch: scratchDirectory(values, home),
    binaries: binariesOf(context, backup),
    canary: await canaryOf(backup),
    checkBooks,
    signal: o.signal,
    onProgress: o.onProgress,
    log,
    clock: systemClock,
  })
  await tellArchive(home)
  return report
}

/** While the archive does not run, or the database is lost, there is no canary to be written. */
async function canaryOf(backup: OpenBackup) {
  const { home, values } = backup
  if ((await archiveStatus(home))?.archiver.state !== 'streaming') return undefined
  const path = home.socket('archive')
  return {
    write: async () => writeCanary(await sqlTarget(home, values)),
    untilStored: async (lsn: bigint) => {
      const body = { lsn: formatLsn(lsn), withinMs: storedWithinMs }
      await callControl({ path, route: '/until-stored', body, timeoutMs: storedWithinMs + 5_000 })
    },
  }
}

async function checkBooks(connection: import('pg').ClientConfig): Promise<{ ok: boolean; detail: string }> {
  const { recompute } = await import('#game/recompute.ts')
  const books = await reconcile({ target: connection as DatabaseTarget, recompute })
  const wrong = books.checks.filter(check => check.mismatches > 0n)
  const rounds = books.checks.find(check => check.name === 'round-postings')?.rows ?? 0n
  if (wrong.length === 0) return { ok: true, detail: `${books.checks.length} checks, ${rounds} rounds` }
  return { ok: false, detail: wrong.map(check => `${check.name}: ${check.mismatches} wrong`).join(', ') }
}

function binariesOf({ programRoot }: Context, { values }: OpenBackup): Binaries {
  return findBinaries({ programRoot, ...(values.postgres.bin ? { bin: values.postgres.bin } : {}) })
}
