import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type pg from 'pg'
import { superuserName } from '#postgres/server/access.ts'
import { type Binaries, findBinaries } from '#postgres/server/binaries.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { newNode, withClient } from '#test/postgres-node.ts'
import { cleanUp, testDirectory, testProgram } from '#test/unprivileged.ts'
import { commitsSql, ledgerSql } from './data.ts'
import { childrenOf, cpuSeconds, endAll } from './processes.ts'

/** A server with the data in it. */
export interface BenchServer {
  node: PostgresNode
  binaries: Binaries
  /** Of all databases; what rates are counted in. */
  megabytes: number
  query<T extends pg.QueryResultRow = pg.QueryResultRow>(text: string): Promise<T[]>
  /** Of the postmaster and all it has started, since its start. */
  cpuSeconds(): number
}

/** Two servers on this disk, and a directory in memory for what is written. */
export interface BenchWorld {
  runAs: RunAs | undefined
  /** Undefined when it is not installed. */
  debian: BenchServer | undefined
  embedded: BenchServer | undefined
  /** The directory in memory that directories for targets are made in. */
  memory: string
  /** A new directory of the unprivileged user, in memory or on the disk of the servers; the caller removes it. */
  directory(where: 'memory' | 'disk'): string
  close(): Promise<void>
}

export const debianBin = '/usr/lib/postgresql/15/bin'
const sharedMemory = '/dev/shm'

/** `close` of the world that is given to `opened` at once ends everything, half-made servers too. */
export async function openWorld(o: {
  megabytes: number
  servers: { debian: boolean; embedded: boolean }
  opened: (close: () => Promise<void>) => void
  say: (text: string) => void
}): Promise<BenchWorld> {
  const undo: (() => unknown)[] = []
  const t = { after: (work: () => unknown) => void undo.push(work) } as Pick<TestContext, 'after'>
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= closeAll(undo)
    return closing
  }
  o.opened(close)
  const { runAs, postgresBin, programRoot } = testProgram()
  const memory = ownDirectory(existsSync(sharedMemory) ? sharedMemory : tmpdir(), runAs)
  cleanUp(t, () => rmSync(memory, { recursive: true, force: true }))
  const disk = testDirectory(t)
  const server = (wanted: boolean, bin: string) => {
    if (!wanted || !existsSync(join(bin, 'postgres'))) return undefined
    return openServer(t, { binaries: findBinaries({ bin, programRoot }), ...o })
  }
  // One after the other: each alone is faster on a disk that both would share.
  const debian = await server(o.servers.debian, debianBin)
  const embedded = await server(o.servers.embedded, postgresBin)
  const directory = (where: 'memory' | 'disk') => ownDirectory(where === 'memory' ? memory : disk, runAs)
  return { runAs, debian, embedded, memory, directory, close }
}

async function closeAll(undo: readonly (() => unknown)[]): Promise<void> {
  await endAll()
  for (const work of undo.toReversed()) await work()
}

async function openServer(
  t: Pick<TestContext, 'after'>,
  o: { binaries: Binaries; megabytes: number; say: (text: string) => void },
): Promise<BenchServer> {
  const { binaries, megabytes, say } = o
  say(`preparing PostgreSQL ${binaries.version} with ${megabytes} MB`)
  const node = newNode(t, {
    directory: testDirectory(t),
    binaries,
    sharedBuffersMegabytes: 256,
    settings: {
      // Nothing but what is measured writes; checkpoints are asked for.
      autovacuum: false,
      checkpoint_timeout: '1h',
      max_wal_size: '8GB',
      // pgBackRest archives by a command. Where it does not take part this one lets the log go.
      archive_mode: true,
      archive_command: idleArchiveCommand,
    },
  })
  await node.initialise()
  await node.start(60_000)
  const connection = () => node.connection({ user: superuserName, database: 'postgres' })
  const query = <T extends pg.QueryResultRow>(text: string): Promise<T[]> =>
    withClient(connection(), async client => (await client.query<T>(text)).rows)
  await refuseUnequal(query)
  await query('CREATE ROLE moonyetis_replication LOGIN REPLICATION')
  for (const text of [commitsSql, ...ledgerSql(megabytes), 'CHECKPOINT']) await query(text)
  const [size] = await query<{ bytes: string }>(
    'SELECT sum(pg_database_size(oid))::text AS bytes FROM pg_database',
  )
  const cpu = () => {
    const pid = node.running?.pid
    if (pid === undefined) return Number.NaN
    const children = childrenOf(pid).reduce((sum, child) => sum + cpuSeconds(child), 0)
    return cpuSeconds(pid, { waitedFor: true }) + children
  }
  return { node, binaries, megabytes: Number(size?.bytes) / 1e6, query, cpuSeconds: cpu }
}

export const idleArchiveCommand = '/bin/true'

// Without them a backup proves less and a commit costs less.
async function refuseUnequal(query: BenchServer['query']): Promise<void> {
  const names = ['fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums']
  for (const name of names) {
    const [row] = await query<Record<string, string>>(`SHOW ${name}`)
    if (row?.[name] !== 'on') throw new Error(`the bench needs ${name} to be on`)
  }
}

function ownDirectory(parent: string, runAs: RunAs | undefined): string {
  const path = mkdtempSync(join(parent, 'my-'))
  if (runAs) chownSync(path, runAs.uid, runAs.gid)
  return path
}

/** In a directory of the unprivileged user. */
export function makeDirectories(world: BenchWorld, ...paths: string[]): void {
  for (const path of paths) {
    mkdirSync(path, { mode: 0o700 })
    if (world.runAs) chownSync(path, world.runAs.uid, world.runAs.gid)
  }
}
