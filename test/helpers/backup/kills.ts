import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Repository } from '#backup/repository.ts'
import { formatLsn, type Lsn, parseLsn, segmentName, segmentStart } from '#lib/lsn.ts'
import { superuserName } from '#postgres/server/access.ts'
import { cloneDirectory } from '../postgres-node.ts'
import type { Random } from '../system/random.ts'
import { cleanUp, testDirectory } from '../unprivileged.ts'
import { until } from '../until.ts'
import type { ArchiverProcessOptions } from './archiver-process.ts'
import {
  type ArchivedServer,
  archivedServer,
  openRepository,
  openRepositoryStorage,
  startCopy,
} from './archiving.ts'

/** Much shorter than in earnest, so that killed archives are passed over and segments are stored between two kills. */
const leaseMs = 300
const committers = 3
const segmentBytes = 16 * 1024 * 1024

/**
 * Commits wait for the archive, and the archive is killed again and again at any moment. At the end its spool and its
 * repository alone must give back each commit that was acknowledged, and no object may differ from the server's WAL.
 */
export async function surviveKills(t: TestContext, o: { kills: number; random: Random }): Promise<void> {
  const settings = { wal_keep_size: '100GB', max_wal_size: '256MB' }
  const server = await archivedServer(t, { settings })
  const base = await baseOf(server)
  const place = testDirectory(t)
  let archiver = await startArchiver(t, server, place)
  await archiver.streaming
  await server.query("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (archive)'")
  await server.query('SELECT pg_reload_conf()')
  await until(async () => {
    const rows = await server.query("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
    return rows.length > 0
  })
  const work = new Committers(server)
  for (let kill = 0; kill < o.kills; kill++) {
    // One in four dies while it starts, the others while they receive and store.
    if (!o.random.chance(0.25)) await archiver.streaming
    await delay(o.random.whole(0, 1_200))
    await archiver.kill()
    await assertConfirmedIsHere(server, place)
    archiver = await startArchiver(t, server, place)
  }
  await archiver.streaming
  const acknowledged = await work.stop()
  await archiver.kill()
  await assertConfirmedIsHere(server, place)
  t.diagnostic(`${o.kills} kills, ${acknowledged.length} commits acknowledged`)
  await server.node.stop({ mode: 'immediate', withinMs: 10_000 })
  const { repository } = await openPlace(place)
  const wal = await gatherWal(t, { repository, spool: join(place, 'spool'), server })
  const restored = await recover(t, { base, wal })
  const rows = await restored.query<{ id: string }>('SELECT id::text FROM kept')
  const kept = new Set(rows.map(row => Number(row.id)))
  const missing = acknowledged.filter(id => !kept.has(id))
  assert.deepEqual(missing, [], `${missing.length} acknowledged commits are missing`)
}

/** The server's data directory at rest, as a base backup that needs no program. */
async function baseOf(server: ArchivedServer): Promise<string> {
  await server.node.stop({ mode: 'fast', withinMs: 30_000 })
  const base = join(server.directory, 'base')
  cloneDirectory(server.node.dataDirectory, base)
  await server.node.start(60_000)
  return base
}

/** What the dead archive confirmed last, which lets commits return, lies in its spool as the server wrote it. */
async function assertConfirmedIsHere(server: ArchivedServer, place: string): Promise<void> {
  let confirmed: Lsn | undefined
  // The server may still be reading what the archive sent before it died.
  await until(async () => {
    const [slot] = await server.query<{ active: boolean; lsn: string }>(
      'SELECT active, restart_lsn AS lsn FROM pg_replication_slots',
    )
    confirmed = parseLsn(slot?.lsn ?? '')
    return slot?.active === false
  })
  const lsn = confirmed as Lsn
  const segment = segmentName(1, lsn, segmentBytes)
  const length = Number(lsn - segmentStart(lsn, segmentBytes))
  // At the very beginning of a segment all of the one before is confirmed.
  if (length === 0) return
  const [system = ''] = readdirSync(join(place, 'spool'))
  const spool = join(place, 'spool', system)
  const names = readdirSync(spool)
  const name = [`${segment}.partial`, segment].find(one => names.includes(one))
  // It may have been completed and stored since.
  if (name === undefined) return assertStored(place, segment)
  const here = readFileSync(join(spool, name)).subarray(0, length)
  const there = readFileSync(join(server.node.dataDirectory, 'pg_wal', segment)).subarray(0, length)
  assert.ok(here.equals(there), `${name} lacks what was confirmed up to ${formatLsn(lsn)}`)
}

async function assertStored(place: string, segment: string): Promise<void> {
  const { repository } = await openPlace(place)
  const [system = ''] = await repository.systems()
  const stored = await Array.fromAsync(repository.segments(system, 1))
  assert.ok(
    stored.some(one => one.segment === segment),
    `${segment} is neither in the spool nor in the repository`,
  )
}

async function openPlace(place: string): Promise<{ repository: Repository }> {
  return { repository: await openRepository(place, await openRepositoryStorage(place)) }
}

interface RunningArchiver {
  streaming: Promise<void>
  kill(): Promise<void>
}

async function startArchiver(
  t: TestContext,
  server: ArchivedServer,
  directory: string,
): Promise<RunningArchiver> {
  const connection = server.node.connection({ user: 'moonyetis_replication', database: 'postgres' })
  const options: ArchiverProcessOptions = { directory, connection, leaseMs, tailEveryMs: 100 }
  const program = join(import.meta.dirname, 'archiver-process.ts')
  const child = spawn(process.execPath, [program, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  cleanUp(t, () => child.kill('SIGKILL'))
  await once(child, 'spawn')
  const exited = once(child, 'exit')
  return { streaming: saysStreaming(child), kill: () => kill(child, exited) }
}

async function kill(child: ChildProcess, exited: Promise<unknown[]>): Promise<void> {
  assert.equal(child.exitCode, null, 'the archiver ended by itself')
  child.kill('SIGKILL')
  await exited
}

function saysStreaming(child: ChildProcess): Promise<void> {
  assert.ok(child.stdout)
  const lines: string[] = []
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // Read to the end, so that the pipe never fills.
  createInterface(child.stdout)
    .on('line', line => {
      lines.push(line)
      if (line.includes('WAL streaming began')) resolve()
    })
    .on('close', () => reject(new Error(`it never streamed:\n${lines.slice(-5).join('\n')}`)))
  // Nobody waits for one that is killed while it starts.
  promise.catch(() => {})
  return promise
}

/** Clients that commit as fast as they are answered, and know what was. */
class Committers {
  readonly #running: Promise<void>[]
  readonly #acknowledged: number[] = []
  #isStopped = false
  #next = 0

  constructor(server: ArchivedServer) {
    this.#running = Array.from({ length: committers }, () => this.#commit(server))
    // When the test fails elsewhere, the server goes under them.
    for (const one of this.#running) one.catch(() => {})
  }

  /** What was acknowledged by then. */
  async stop(): Promise<number[]> {
    this.#isStopped = true
    await Promise.all(this.#running)
    return this.#acknowledged
  }

  async #commit(server: ArchivedServer): Promise<void> {
    const client = new pg.Client(server.node.connection({ user: superuserName, database: 'postgres' }))
    client.on('error', () => {})
    await client.connect()
    while (!this.#isStopped) {
      const id = this.#next++
      // With enough WAL that segments fill between two kills.
      await client.query(
        `WITH filler AS (SELECT pg_logical_emit_message(true, 'filler', repeat(md5('${id}'), 2000)))
         INSERT INTO kept (id) SELECT ${id} FROM filler`,
      )
      this.#acknowledged.push(id)
    }
    await client.end()
  }
}

/** All WAL of repository and spool in a directory that PostgreSQL can read; compared with the server's own. */
async function gatherWal(
  t: TestContext,
  o: { repository: Repository; spool: string; server: ArchivedServer },
): Promise<string> {
  const directory = join(testDirectory(t), 'wal')
  mkdirSync(directory)
  const own = join(o.server.node.dataDirectory, 'pg_wal')
  const put = (segment: string, bytes: Buffer) => {
    writeFileSync(join(directory, segment), bytes)
    chmodSync(join(directory, segment), 0o644)
  }
  let stored = 0
  const [system] = await o.repository.systems()
  assert.ok(system)
  for await (const { key, segment } of o.repository.segments(system, 1)) {
    const { bytes } = await o.repository.readSealed(key)
    assert.ok(bytes.equals(readFileSync(join(own, segment))), `${segment} differs`)
    put(segment, bytes)
    stored++
  }
  const spool = join(o.spool, system)
  for (const name of readdirSync(spool).sort()) {
    const [segment = '', state] = name.split('.')
    if (!/^[0-9A-F]{24}$/.test(segment)) continue
    if (state === undefined)
      assert.ok(readFileSync(join(spool, name)).equals(readFileSync(join(own, segment))))
    copyFileSync(join(spool, name), join(directory, segment))
    chmodSync(join(directory, segment), 0o644)
  }
  t.diagnostic(`${stored} segments in the repository, ${readdirSync(directory).length} with the spool`)
  return directory
}

/** A new server from the base and that WAL alone, replayed to its end. */
async function recover(t: TestContext, o: { base: string; wal: string }): Promise<ArchivedServer> {
  writeFileSync(join(o.base, 'recovery.signal'), '')
  const settings = { restore_command: `cp ${o.wal}/%f %p`, recovery_target_action: 'promote' }
  const restored = await startCopy(t, { of: o.base, directory: testDirectory(t), settings })
  await until(async () => {
    const [row] = await restored.query('SELECT pg_is_in_recovery() AS still')
    return row?.still === false
  }, 120_000)
  return restored
}
