import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { Archiver, type ArchiverOptions } from '#backup/archive/archiver.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { Repository } from '#backup/repository.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { createMetrics } from '#lib/metrics.ts'
import { superuserName } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import type { SettingValue } from '#postgres/server/settings.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openStorage } from '#storage/open.ts'
import type { Storage } from '#storage/storage.ts'
import { cloneDirectory, newNode, withClient } from '../postgres-node.ts'
import { type FaultyStorage, faulty } from '../storage/faulty.ts'
import { cleanUp, testDirectory, testProgram } from '../unprivileged.ts'

export const debianBin = '/usr/lib/postgresql/15/bin'
export const noDebian = existsSync(join(debianBin, 'postgres'))
  ? false
  : 'needs PostgreSQL 15: apt-get install postgresql-15'

export const slotName = 'moonyetis_archive'

/** A directory per version with an initialised server in it that does not run, made once per process. */
const templates = new Map<string, Promise<string>>()

export interface ArchivedServer {
  node: PostgresNode
  directory: string
  query<T extends pg.QueryResultRow = pg.QueryResultRow>(text: string): Promise<T[]>
  /** Where the server's WAL ends on disk. */
  flushLsn(): Promise<Lsn>
  /** Some WAL, about that many bytes of it. */
  write(bytes: number): Promise<void>
}

/** A server with fsync off (no test cuts the power) in a directory that goes with the test. */
export async function archivedServer(
  t: Pick<TestContext, 'after'>,
  o: { bin?: string | undefined; settings?: Record<string, SettingValue> } = {},
): Promise<ArchivedServer> {
  const directory = testDirectory(t)
  return startCopy(t, { ...o, directory, of: await template(o.bin) })
}

/** Starts a server on a copy of a data directory that is at rest. */
export async function startCopy(
  t: Pick<TestContext, 'after'>,
  o: { of: string; directory: string; bin?: string | undefined; settings?: Record<string, SettingValue> },
): Promise<ArchivedServer> {
  const { directory } = o
  const dataDirectory = join(directory, 'node-a')
  cloneDirectory(o.of, dataDirectory)
  const node = newNode(t, {
    directory,
    binaries: binaries(o.bin),
    settings: {
      fsync: false,
      max_connections: 30,
      max_wal_size: '128MB',
      min_wal_size: '32MB',
      ...o.settings,
    },
  })
  await node.start(60_000)
  return { node, directory, ...access(node) }
}

function access(node: PostgresNode) {
  const query = <T extends pg.QueryResultRow>(text: string): Promise<T[]> =>
    withClient(
      node.connection({ user: superuserName, database: 'postgres' }),
      async client => (await client.query<T>(text)).rows,
    )
  return {
    query,
    flushLsn: async () => {
      const [row] = await query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn')
      return parseLsn(row?.lsn ?? '') as Lsn
    },
    write: async (bytes: number) => {
      await query(
        `SELECT pg_logical_emit_message(true, 'test', repeat(md5(i::text), 2048)) FROM generate_series(1, ${Math.ceil(bytes / 65536)}) i`,
      )
    },
  }
}

async function template(bin: string | undefined): Promise<string> {
  const key = bin ?? 'embedded'
  let made = templates.get(key)
  if (!made) {
    made = makeTemplate(bin)
    templates.set(key, made)
  }
  return made
}

async function makeTemplate(bin: string | undefined): Promise<string> {
  // Nothing to await: at the end of the process the server has long stopped.
  const never = { after: () => {} }
  const directory = testDirectory(never)
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  const node = newNode(never, {
    directory,
    binaries: binaries(bin),
    settings: { fsync: false, max_connections: 30 },
  })
  await node.initialise()
  await node.start(60_000)
  await access(node).query(
    'CREATE ROLE moonyetis_replication LOGIN REPLICATION; CREATE TABLE kept (id bigint PRIMARY KEY, at timestamptz DEFAULT now())',
  )
  await node.stop({ mode: 'fast', withinMs: 30_000 })
  return node.dataDirectory
}

function binaries(bin: string | undefined) {
  const { postgresBin, programRoot } = testProgram()
  return findBinaries({ bin: bin ?? postgresBin, programRoot })
}

function connectTo(node: PostgresNode): () => Promise<ReplicationConnection> {
  return () =>
    ReplicationConnection.open(node.connection({ user: 'moonyetis_replication', database: 'postgres' }), {
      applicationName: 'archive',
    })
}

export interface ArchivePlace {
  directory: string
  spool: string
  storage: FaultyStorage
  repository: Repository
  pool: SealPool
  /** An archiver of this place; stopped after the test. */
  archiver(node: PostgresNode, o?: Partial<ArchiverOptions>): Archiver
}

/** A home with keys, a repository on this disk that can be made to fail, and a spool. */
export async function archivePlace(t: Pick<TestContext, 'after'>): Promise<ArchivePlace> {
  const directory = testDirectory(t)
  const storage = faulty(await openRepositoryStorage(directory))
  const repository = await openRepository(directory, storage)
  const pool = new SealPool({ threads: 1 })
  cleanUp(t, () => pool.close())
  const spool = join(directory, 'spool')
  return {
    directory,
    spool,
    storage,
    repository,
    pool,
    archiver: (node, o = {}) => {
      const archiver = new Archiver({ ...archiverOptions({ node, repository, pool, spool }), ...o })
      cleanUp(t, () => archiver.stop())
      return archiver
    },
  }
}

export function openRepositoryStorage(directory: string): Promise<Storage> {
  return openStorage({ url: pathToFileURL(join(directory, 'repository')).href, log: silentLog })
}

export async function openRepository(directory: string, storage: Storage): Promise<Repository> {
  mkdirSync(join(directory, 'home'), { recursive: true })
  const home = openHome(join(directory, 'home'))
  ensureBackupKeys({ home, chain: 'simulated' })
  return Repository.create({ storage, home })
}

function archiverOptions(o: {
  node: PostgresNode
  repository: Repository
  pool: SealPool
  spool: string
}): ArchiverOptions {
  return {
    connect: connectTo(o.node),
    repository: o.repository,
    pool: o.pool,
    spoolDirectory: o.spool,
    spoolLimitBytes: 256 * 1024 * 1024,
    slot: slotName,
    tailEveryMs: 200,
    clock: systemClock,
    log: silentLog,
    metrics: createMetrics(),
    onGap: () => {},
    holder: 'test',
  }
}
