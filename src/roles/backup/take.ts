import { Journal } from '#audit/journal.ts'
import { walKeysIn } from '#backup/archive/spool-directory.ts'
import { type BackupEvent, type DatabaseAccess, type RanBackup, runBackup } from '#backup/base/full.ts'
import type { BackupProgress } from '#backup/base/progress.ts'
import { databaseTime } from '#backup/base/server-facts.ts'
import type { BackupKind } from '#backup/model.ts'
import { systemClock } from '#lib/clock.ts'
import { callControl } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'
import { formatLsn } from '#lib/lsn.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { holderName } from '../archive/role.ts'
import { replicationTarget, sqlTarget } from './connect.ts'
import { archiveStatus, tellArchive } from './look.ts'
import { type OpenBackup, spoolDirectory } from './open.ts'
import { actor } from './words.ts'

// WAL of the backup itself: the archive has it within moments, unless the repository is slow to take it.
const storedWithinMs = 30 * 60_000

/** Takes a backup in this process. With a live archive the log comes from it; without one the backup brings its own. */
export async function takeBackup(
  backup: OpenBackup,
  o: {
    kind: BackupKind
    label?: string
    dueAt?: Date
    version: string
    signal: AbortSignal
    onProgress: (progress: BackupProgress) => void
  },
): Promise<RanBackup> {
  const { home, repository, pool, log } = backup
  using journal = closing(new Journal({ home }))
  const audit = async (event: BackupEvent) => {
    const { id, kind, outcome, facts } = event
    const detail = { kind, ...(facts as Record<string, string | number>) }
    journal.record({ actor: actor(), action: `backup.${outcome}`, target: id, detail })
  }
  const ran = await runBackup({
    kind: o.kind,
    label: o.label,
    home,
    repository,
    pool,
    database: o.kind === 'files' ? undefined : await databaseAccess(backup),
    walKeysInUse: () => walKeysIn(spoolDirectory(backup.values, home)),
    dueAt: o.dueAt,
    holder: holderName(`backup ${o.kind}`),
    program: `moonyetis ${o.version}`,
    clock: systemClock,
    log,
    onProgress: o.onProgress,
    audit,
    signal: o.signal,
  })
  await tellArchive(home)
  return ran
}

async function databaseAccess({ home, values, storage }: OpenBackup): Promise<DatabaseAccess> {
  const connect: DatabaseAccess['connect'] = async ({ signal }) =>
    ReplicationConnection.open(await replicationTarget(home, values), {
      applicationName: 'moonyetis backup',
      signal,
    })
  const access = { connect, databaseTime: async () => databaseTime(await sqlTarget(home, values)) }
  const archive = await archiveStatus(home)
  // One that archives into another repository stores here nothing of what this backup needs.
  return archive?.repository === storage.description ? { ...access, ...archiveAccess(home) } : access
}

function archiveAccess(home: Home): Pick<DatabaseAccess, 'rotateWalKey' | 'untilStored'> {
  const path = home.socket('archive')
  return {
    rotateWalKey: async () => {
      const timeoutMs = 60_000
      const { dataKey } = await callControl<{ dataKey: string }>({
        path,
        route: '/rotate-key',
        method: 'POST',
        timeoutMs,
      })
      return dataKey
    },
    untilStored: async lsn => {
      const body = { lsn: formatLsn(lsn), withinMs: storedWithinMs }
      await callControl({ path, route: '/until-stored', body, timeoutMs: storedWithinMs + 5_000 })
    },
  }
}

function closing<T extends { close(): void }>(resource: T): T & Disposable {
  return Object.assign(resource, { [Symbol.dispose]: () => resource.close() })
}
