import { randomBytes } from 'node:crypto'
import { chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { migrate } from '#postgres/client/migrations.ts'
import { type DatabaseTarget, databaseName, exactTypes } from '#postgres/client/target.ts'
import { roleNames, superuserName } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { bootstrapDatabase } from '#postgres/server/bootstrap.ts'
import { createNode, type PostgresNode } from '#postgres/server/node.ts'
import { isPostmasterAlive } from '#postgres/server/postmaster.ts'
import type { SettingValue } from '#postgres/server/settings.ts'
import { testProgram } from './unprivileged.ts'

const programRoot = join(import.meta.dirname, '..', '..')

export type TestRole = 'superuser' | 'owner' | 'app' | 'monitor'

/** A migrated database of its own on the test server. */
export interface TestDatabase {
  node: PostgresNode
  name: string
  /** By database role; a function, since a server that was started again may have another port. */
  target(role: TestRole): DatabaseTarget
  /** Runs one statement as superuser, bigint columns as bigint. */
  query<T extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: unknown[]): Promise<T[]>
  /** Another database with the same content; nobody may be connected to this one. */
  copy(): Promise<TestDatabase>
  close(): Promise<void>
}

export interface TestServer {
  node: PostgresNode
  /** A copy of the migrated template, on the given chain. */
  createDatabase(chain?: 'simulated' | 'mainnet'): Promise<TestDatabase>
  /** Starts it again after a test has killed or stopped it. */
  start(): Promise<void>
  stop(): Promise<void>
}

let shared: Promise<TestServer> | undefined

/**
 * A fresh migrated database that ends with the test or suite `t`. All of one test process share one PostgreSQL, which
 * goes with the process.
 */
export async function withDatabase(
  t: { after(work: () => Promise<void>): void },
  chain?: 'simulated' | 'mainnet',
): Promise<TestDatabase> {
  const database = await openDatabase(chain)
  t.after(() => database.close())
  return database
}

/** As withDatabase, for a file's before and after hooks. */
export async function openDatabase(chain?: 'simulated' | 'mainnet'): Promise<TestDatabase> {
  shared ??= startServer()
  return (await shared).createDatabase(chain)
}

/** A PostgreSQL of its own, for tests that kill it. It also ends with this process. */
export async function startServer(
  options: { settings?: Record<string, SettingValue> } = {},
): Promise<TestServer> {
  const { postgresBin, runAs } = testProgram()
  const directory = mkdtempSync(join(tmpdir(), 'moonyetis-pg-'))
  const socketDirectory = join(directory, 's')
  mkdirSync(socketDirectory)
  for (const path of [directory, socketDirectory]) if (runAs) chownSync(path, runAs.uid, runAs.gid)
  const node = createNode({
    name: 'test',
    dataDirectory: join(directory, 'data'),
    logDirectory: join(directory, 'log'),
    binaries: findBinaries({ bin: postgresBin, programRoot }),
    socketDirectory,
    port: 20_000 + (process.pid % 20_000),
    log: silentLog,
    clock: systemClock,
    sharedBuffersMegabytes: 64,
    // What a killed process has written stays in the kernel; only a power cut needs fsync, and no test cuts power.
    settings: { fsync: false, ...options.settings },
    runAs,
  })
  process.once('exit', () => endNow(node, directory))
  await node.initialise()
  await start(node)
  const passwords = { user: randomBytes(16).toString('hex'), replication: randomBytes(16).toString('hex') }
  await bootstrapDatabase({ node, passwords, log: silentLog })
  const connection = node.connection({ user: roleNames.owner, database: databaseName })
  await migrate({ connection, directory: join(programRoot, 'migrations'), log: silentLog })
  return {
    node,
    createDatabase: chain => createDatabase(node, chain ?? 'simulated'),
    start: () => start(node),
    stop: async () => {
      await node.stop({ mode: 'immediate', withinMs: 5_000 })
      rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

async function start(node: PostgresNode): Promise<void> {
  await node.start(60_000)
  // The program's own access file knows one database name; here each test has its own.
  const roles = [roleNames.owner, roleNames.app, roleNames.monitor].join(',')
  const line = `local all ${roles} peer map=moonyetis\nlocal all ${superuserName} peer map=moonyetis\n`
  writeFileSync(join(node.dataDirectory, 'pg_hba.conf'), line, { flag: 'a' })
  await run(node.connection({ user: superuserName, database: 'postgres' }), 'SELECT pg_reload_conf()')
}

let created = 0

async function createDatabase(
  node: PostgresNode,
  chain: string,
  template: string = databaseName,
): Promise<TestDatabase> {
  const name = `test_${++created}`
  const admin = () => node.connection({ user: superuserName, database: 'postgres' })
  await run(admin(), `CREATE DATABASE ${name} TEMPLATE ${template} OWNER ${roleNames.owner}`)
  const target = (role: TestRole): DatabaseTarget => {
    const user = role === 'superuser' ? superuserName : roleNames[role]
    const { host, port } = node.connection({ user, database: name })
    return { host: host as string, port: port as number, database: name, user }
  }
  await run(target('owner'), 'INSERT INTO installation (chain) VALUES ($1) ON CONFLICT DO NOTHING', [chain])
  return {
    node,
    name,
    target,
    query: (text, values) => run(target('superuser'), text, values),
    copy: () => createDatabase(node, chain, name),
    close: async () => {
      // A test may leave the server dead; its directory goes with the process.
      if (node.running) await run(admin(), `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    },
  }
}

async function run<T extends pg.QueryResultRow>(
  connection: pg.ClientConfig,
  text: string,
  values: unknown[] = [],
): Promise<T[]> {
  const client = new pg.Client({ ...connection, types: exactTypes })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<T>(text, values)).rows
  } finally {
    await client.end()
  }
}

/** At the end of the process nothing can be awaited any more. */
function endNow(node: PostgresNode, directory: string): void {
  const { running } = node
  if (running) {
    process.kill(running.pid, 'SIGQUIT')
    const pause = new Int32Array(new SharedArrayBuffer(4))
    for (let waitedMs = 0; waitedMs < 5_000 && isPostmasterAlive(running); waitedMs += 10) {
      Atomics.wait(pause, 0, 0, 10)
    }
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
}
