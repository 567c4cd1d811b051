import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Archiver } from '#backup/archive/archiver.ts'
import { runBackup } from '#backup/base/full.ts'
import { databaseTime } from '#backup/base/server-facts.ts'
import type { SealPool } from '#backup/envelope/pool.ts'
import { KeyRing, recoveryFrom } from '#backup/keys/ring.ts'
import { layout } from '#backup/layout.ts'
import type { BackupKind, BackupMarker } from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { type RestoreOptions, type RestoreResult, restore } from '#backup/restore/restore.ts'
import { parseRequest, type TargetOptions } from '#backup/restore/target.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { superuserName } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import type { Storage } from '#storage/storage.ts'
import { newNode, withClient } from '../postgres-node.ts'
import { testDirectory, testProgram } from '../unprivileged.ts'
import { type ArchivedServer, type ArchivePlace, archivedServer, archivePlace } from './archiving.ts'

/** A commit of one row, with what a restore may aim at. */
export interface Commit {
  id: number
  /** Server's clock, between this commit and the next. */
  after: string
  /** Behind its record. */
  lsn: string
}

/** A server with an archive and backups, all in directories that go with the test. */
export interface Original {
  server: ArchivedServer
  place: ArchivePlace
  archiver: Archiver
  bin: string | undefined
  backup(kind?: BackupKind): Promise<BackupMarker>
  commit(id: number): Promise<Commit>
  /** Resolves when the archive has on disk what was written so far. */
  archived(): Promise<void>
  /** A restore point in log and repository. */
  point(name: string): Promise<void>
  restore(directory: string, target?: TargetOptions, more?: Partial<RestoreOptions>): Promise<RestoreResult>
}

export async function original(t: Pick<TestContext, 'after'>, bin?: string): Promise<Original> {
  const place = await archivePlace(t)
  const server = await archivedServer(t, { bin })
  const archiver = place.archiver(server.node)
  await archiver.start()
  const archived = async () => archiver.untilFlushed(await server.flushLsn(), 20_000)
  return {
    server,
    place,
    archiver,
    bin,
    archived,
    backup: kind => backup({ server, place, archiver }, kind),
    commit: id => commit(server, id),
    point: name => makePoint(server, place, name),
    restore: async (directory, target = {}, more = {}) => {
      const { pool, spool, storage } = place
      const repository = await recoveryRepository(place.directory, storage)
      return restore({ ...restoreOptions({ pool, spool, bin, directory, target }), repository, ...more })
    },
  }
}

/** Everything but the repository. */
export function restoreOptions(o: {
  pool: SealPool
  spool: string | undefined
  bin: string | undefined
  directory: string
  target?: TargetOptions
}): Omit<RestoreOptions, 'repository'> {
  const { postgresBin, programRoot, runAs } = testProgram()
  return {
    pool: o.pool,
    request: parseRequest(o.target ?? {}, 'UTC'),
    directory: o.directory,
    spool: o.spool,
    binaries: findBinaries({ bin: o.bin ?? postgresBin, programRoot }),
    runAs,
    log: silentLog,
    clock: systemClock,
  }
}

/** The repository as a bare machine opens it that has nothing but the recovery key of the place's home. */
export async function recoveryRepository(place: string, storage: Storage): Promise<Repository> {
  const home = openHome(join(place, 'home'))
  const { identities, trustedSigner } = await recoveryFrom({ home })
  const ring = new KeyRing({ identities })
  return Repository.open({ storage, ring, log: silentLog, ...(trustedSigner ? { trustedSigner } : {}) })
}

/** The rows of `kept` in a restored home, from a server that is started there and stopped again. */
export async function idsIn(
  t: Pick<TestContext, 'after'>,
  home: string,
  bin?: string,
  sql = 'SELECT id::int FROM kept ORDER BY id',
): Promise<unknown[]> {
  const { postgresBin, programRoot } = testProgram()
  const directory = testDirectory(t)
  const node = newNode(t, {
    directory,
    dataDirectory: join(home, 'postgres', 'node-a'),
    binaries: findBinaries({ bin: bin ?? postgresBin, programRoot }),
  })
  await node.start(30_000)
  try {
    return await withClient(node.connection({ user: superuserName, database: 'postgres' }), async client =>
      (await client.query({ text: sql, rowMode: 'array' })).rows.flat(),
    )
  } finally {
    await node.stop({ mode: 'fast', withinMs: 20_000 })
  }
}

/** The values of all rows, one after the other. */
export async function valuesFrom(node: PostgresNode, sql: string): Promise<unknown[]> {
  return withClient(node.connection({ user: superuserName, database: 'postgres' }), async client =>
    (await client.query({ text: sql, rowMode: 'array' })).rows.flat(),
  )
}

/** A directory of its own file, not there yet. */
export function restoreTarget(t: Pick<TestContext, 'after'>): string {
  return join(testDirectory(t), 'home')
}

/** A directory that PostgreSQL may make a tablespace in. */
export function tablespaceDirectory(t: Pick<TestContext, 'after'>): string {
  const path = join(testDirectory(t), 'another disk')
  mkdirSync(path)
  const { runAs } = testProgram()
  if (runAs) chownSync(path, runAs.uid, runAs.gid)
  return path
}

async function backup(
  o: Pick<Original, 'server' | 'place' | 'archiver'>,
  kind: BackupKind = 'full',
): Promise<BackupMarker> {
  const { server, place, archiver } = o
  const replication = server.node.connection({ user: 'moonyetis_replication', database: 'postgres' })
  const superuser = server.node.connection({ user: superuserName, database: 'postgres' })
  const { marker } = await runBackup({
    kind,
    home: openHome(join(place.directory, 'home')),
    repository: place.repository,
    pool: place.pool,
    database: {
      connect: options => ReplicationConnection.open(replication, options),
      databaseTime: () => databaseTime(superuser),
      rotateWalKey: async () => (await archiver.rotateKey()).dataKey,
      untilStored: (lsn: Lsn) => archiver.untilStored(lsn, 20_000),
    },
    holder: 'test',
    program: 'test',
    clock: systemClock,
    log: silentLog,
  })
  return marker
}

async function commit(server: ArchivedServer, id: number): Promise<Commit> {
  await server.query(`INSERT INTO kept VALUES (${id})`)
  // One commit per transaction; the clock after it lies before the next one's.
  const [row] = await server.query<{ after: string; lsn: string }>(
    'SELECT clock_timestamp()::text AS after, pg_current_wal_insert_lsn()::text AS lsn',
  )
  return { id, after: (row?.after ?? '').replace(/\+00$/, 'Z'), lsn: row?.lsn ?? '' }
}

async function makePoint(server: ArchivedServer, place: ArchivePlace, name: string): Promise<void> {
  const [row] = await server.query<{ lsn: string; timeline: number; system: string; at: Date }>(
    `SELECT pg_create_restore_point('${name}')::text AS lsn, c.timeline_id AS timeline,
            s.system_identifier::text AS system, now() AS at
       FROM pg_control_checkpoint() c, pg_control_system() s`,
  )
  if (!row || parseLsn(row.lsn) === undefined) throw new Error('no restore point')
  await place.repository.writeSigned(layout.point(name), {
    format: 1,
    repositoryId: place.repository.id,
    name,
    systemIdentifier: row.system,
    timeline: row.timeline,
    lsn: row.lsn,
    at: row.at.toISOString(),
  })
}
