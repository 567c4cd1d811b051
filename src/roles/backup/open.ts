import { cpus } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { backupSlice } from '#backup/config.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import { KeyRing, recoveryFrom } from '#backup/keys/ring.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { Repository } from '#backup/repository.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { postgresServerSlice } from '#postgres/server/config.ts'
import { openStorage } from '#storage/open.ts'
import type { Storage } from '#storage/storage.ts'
import { loadSlices } from '../config.ts'
import { installationSlice } from '../installation-slice.ts'
import { logSlice } from '../log-slice.ts'
import type { Context } from '../program.ts'

const slices = [logSlice, postgresServerSlice, installationSlice, backupSlice] as const

export type BackupValues = ReturnType<typeof loadBackupConfig>

export function loadBackupConfig(context: Pick<Context, 'homeRoot' | 'env'>) {
  return loadSlices(slices, context).values
}

/** What every backup verb needs. close() lets go of all of it. */
export interface OpenBackup extends AsyncDisposable {
  home: Home
  values: BackupValues
  storage: Storage
  repository: Repository
  ring: KeyRing
  pool: SealPool
  log: Log
}

/**
 * Opens the repository of this home. `write` makes it, and in simulated mode its keys, when they are not there yet;
 * `read` works on a bare machine too, with the recovery identity or passphrase of the configuration.
 */
export async function openBackup(
  context: Context,
  o: { for: 'write' | 'read'; log: Log; passphrase?: string },
): Promise<OpenBackup> {
  const values = loadBackupConfig(context)
  const home = context.openHome()
  const stack = new AsyncDisposableStack()
  const storage = stack.adopt(await openRepositoryStorage(values, home, o.log), one => one.close())
  const { repository, ring } =
    o.for === 'write'
      ? await openToWrite(values, home, storage)
      : await openToRead(values, home, storage, o.log, o.passphrase)
  // A thread more than there are processors only takes turns with the others.
  const threads = Math.min(values.backup.threads, Math.max(1, cpus().length))
  const pool = stack.adopt(new SealPool({ threads }), one => one.close())
  return {
    home,
    values,
    storage,
    repository,
    ring,
    pool,
    log: o.log,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

export function repositoryUrl(values: BackupValues, home: Home): string {
  return values.backup.repository ?? pathToFileURL(home.backups).href
}

export function spoolDirectory(values: BackupValues, home: Home): string {
  return values.backup.spool ?? join(home.root, 'wal-spool')
}

export function scratchDirectory(values: BackupValues, home: Home): string {
  return values.backup.scratch ?? join(home.root, 'scratch')
}

export function openRepositoryStorage(values: BackupValues, home: Home, log: Log): Promise<Storage> {
  const { s3Endpoint, s3Region, s3AccessKeyId, s3SecretAccessKey } = values.backup
  return openStorage({
    url: repositoryUrl(values, home),
    s3: {
      region: s3Region,
      ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
      ...(s3AccessKeyId === undefined ? {} : { accessKeyId: s3AccessKeyId }),
      ...(s3SecretAccessKey === undefined ? {} : { secretAccessKey: s3SecretAccessKey }),
    },
    log,
  })
}

async function openToWrite(values: BackupValues, home: Home, storage: Storage) {
  ensureBackupKeys({ home, chain: values.installation.chain })
  const recovery = await recoveryFrom({ home })
  const ring = new KeyRing({ home, identities: recovery.identities })
  return { ring, repository: await Repository.create({ storage, home, ring }) }
}

async function openToRead(
  values: BackupValues,
  home: Home,
  storage: Storage,
  log: Log,
  prompted: string | undefined,
) {
  const { identityFile, passphrase = prompted } = values.backup
  const { identities, trustedSigner } = await recoveryFrom({
    home,
    storage,
    ...(identityFile === undefined ? {} : { identityFile }),
    ...(passphrase === undefined ? {} : { passphrase }),
  })
  const ring = new KeyRing({ home, identities })
  const repository = await Repository.open({
    storage,
    ring,
    home,
    log,
    ...(trustedSigner === undefined ? {} : { trustedSigner }),
  })
  return { ring, repository }
}
