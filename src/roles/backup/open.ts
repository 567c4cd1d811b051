import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { backupSlice } from '#backup/config.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import { KeyRing, recoveryFrom } from '#backup/keys/ring.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { Repository } from '#backup/repository.ts'
import { Failure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { postgresServerSlice } from '#postgres/server/config.ts'
import { openStorage } from '#storage/open.ts'
import type { Storage } from '#storage/storage.ts'
import { loadSlices } from '../config.ts'
import { installationSlice } from '../installation-slice.ts'
import { logSlice } from '../log-slice.ts'
import type { Context } from '../program.ts'
import { recall, remember } from './known-repository.ts'

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
  const { storage, repository, ring } =
    o.for === 'write'
      ? await openToWrite(values, home, o.log)
      : await openToRead(values, home, o.log, o.passphrase)
  stack.adopt(storage, one => one.close())
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

export function openRepositoryStorage(
  values: BackupValues,
  home: Home,
  log: Log,
  known?: { conditional: boolean },
): Promise<Storage> {
  const { s3Endpoint, s3Region, s3AccessKeyId, s3SecretAccessKey } = values.backup
  return openStorage({
    url: repositoryUrl(values, home),
    s3: {
      region: s3Region,
      ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
      ...(s3AccessKeyId === undefined ? {} : { accessKeyId: s3AccessKeyId }),
      ...(s3SecretAccessKey === undefined ? {} : { secretAccessKey: s3SecretAccessKey }),
    },
    ...(known ? { known } : {}),
    log,
  })
}

interface Opened {
  storage: Storage
  repository: Repository
  ring: KeyRing
}

async function openToWrite(values: BackupValues, home: Home, log: Log): Promise<Opened> {
  ensureBackupKeys({ home, chain: values.installation.chain })
  const recovery = await recoveryFrom({ home })
  const ring = new KeyRing({ home, identities: recovery.identities })
  const url = repositoryUrl(values, home)
  const known = recall(home, url)
  const opening = openNow(values, home, ring, log)
  if (!known) return opening
  const away = delay(awayAfterMs, undefined, { ref: false })
  const opened = await Promise.race([opening.catch(unlessAway), away])
  if (opened) return opened
  // Should it still answer, nobody waits for it any more.
  opening.then(late => late.storage.close()).catch(() => {})
  log.warn({ repository: url }, 'the repository is away; what is to be stored waits for it')
  const storage = await openRepositoryStorage(values, home, log, known)
  const { descriptor } = known
  return { storage, ring, repository: Repository.remembered({ storage, home, ring, descriptor }) }
}

// Commits may be waiting for the archive that opens it.
const awayAfterMs = 3_000

function unlessAway(error: unknown): undefined {
  if (error instanceof Failure && error.row.retry) return undefined
  throw error
}

async function openNow(values: BackupValues, home: Home, ring: KeyRing, log: Log): Promise<Opened> {
  const storage = await openRepositoryStorage(values, home, log)
  try {
    const repository = await Repository.create({ storage, home, ring })
    remember(home, {
      url: repositoryUrl(values, home),
      conditional: storage.conditional,
      descriptor: repository.descriptor,
    })
    return { storage, repository, ring }
  } catch (error) {
    await storage.close()
    throw error
  }
}

async function openToRead(
  values: BackupValues,
  home: Home,
  log: Log,
  prompted: string | undefined,
): Promise<Opened> {
  const { identityFile, passphrase = prompted } = values.backup
  const storage = await openRepositoryStorage(values, home, log)
  try {
    const { identities, trustedSigner } = await recoveryFrom({
      home,
      storage,
      ...(identityFile === undefined ? {} : { identityFile }),
      ...(passphrase === undefined ? {} : { passphrase }),
    })
    const ring = new KeyRing({ home, identities })
    const trusted = trustedSigner === undefined ? {} : { trustedSigner }
    return { storage, ring, repository: await Repository.open({ storage, ring, home, log, ...trusted }) }
  } catch (error) {
    await storage.close()
    throw error
  }
}
