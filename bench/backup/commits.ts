import type { ChildProcess } from 'node:child_process'
import { chownSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { superuserName } from '#postgres/server/access.ts'
import type { Step } from './backups.ts'
import { commitScript } from './data.ts'
import type { ArchiverOptions } from './own-archive.ts'
import { cpuSeconds, end, peakMegabytes, run, start } from './processes.ts'
import { type BenchServer, type BenchWorld, makeDirectories } from './world.ts'

export interface CommitSample {
  section: 'commit'
  row: string
  clients: number
  repeat: number
  perSecond: number
  p50Ms: number
  p95Ms: number
  p99Ms: number
  /** Of the process that receives, over the whole window and its warm-up. */
  receiverCpuSeconds: number
  receiverPeakMegabytes: number
  serverCpuSeconds: number
}

/** Who follows the log while the commits are made. */
interface Receiver {
  child: ChildProcess
  pid: number
  applicationName: string
}

const replication = { user: 'moonyetis_replication', database: 'postgres' }
const slot = 'moonyetis_archive'
const warmMs = 1000
const startWithinMs = 30_000

export function commitSteps(world: BenchWorld, o: { seconds: number }): Step<CommitSample>[] {
  const { debian: server } = world
  if (!server) return []
  const none = async () => undefined
  const archive = (place: Place) => startArchiver(world, server, place)
  const receivewal = (place: Place) => startReceivewal(world, server, place)
  const modes = [
    { row: 'no archive', start: none, isSynchronous: false },
    { row: 'our archive, async', start: archive, isSynchronous: false },
    { row: 'our archive, sync', start: archive, isSynchronous: true },
    { row: 'pg_receivewal --synchronous, sync', start: receivewal, isSynchronous: true },
  ]
  return [16, 1].flatMap(clients =>
    modes.map(mode => {
      const row = `${mode.row}, ${clients}`
      return {
        row,
        run: (repeat: number) => measureCommits(world, { ...mode, ...o, row, server, clients, repeat }),
      }
    }),
  )
}

/** New directories of the unprivileged user. */
interface Place {
  disk: string
  memory: string
}

interface Window {
  row: string
  start: (place: Place) => Promise<Receiver | undefined>
  isSynchronous: boolean
  seconds: number
  server: BenchServer
  clients: number
  repeat: number
}

async function measureCommits(world: BenchWorld, o: Window): Promise<CommitSample> {
  const { row, clients, repeat, server, isSynchronous } = o
  const place: Place = { disk: world.directory('disk'), memory: world.directory('memory') }
  let receiver: Receiver | undefined
  try {
    await server.query('TRUNCATE commits')
    await server.query('CHECKPOINT')
    receiver = await o.start(place)
    if (receiver) await untilFollowing(server, receiver.applicationName)
    if (receiver && isSynchronous) await requireSynchronous(server, receiver.applicationName)
    const before = { server: server.cpuSeconds(), receiver: receiver ? cpuSeconds(receiver.pid) : Number.NaN }
    const window = await pgbench(world, o, place.disk)
    return {
      section: 'commit',
      row,
      clients,
      repeat,
      ...window,
      receiverCpuSeconds: receiver ? cpuSeconds(receiver.pid) - before.receiver : Number.NaN,
      receiverPeakMegabytes: receiver ? peakMegabytes(receiver.pid) : Number.NaN,
      serverCpuSeconds: server.cpuSeconds() - before.server,
    }
  } finally {
    // Nobody may wait for a receiver that is about to go.
    await server.node.changeSettings({ synchronous_standby_names: '' }, startWithinMs)
    if (receiver) await end(receiver.child)
    await dropSlots(server)
    for (const directory of [place.disk, place.memory]) rmSync(directory, { recursive: true, force: true })
  }
}

/** The spool lies on the disk of the database as pg_receivewal's files do, the repository in memory. */
async function startArchiver(world: BenchWorld, server: BenchServer, place: Place): Promise<Receiver> {
  const options: ArchiverOptions = {
    home: join(place.disk, 'home'),
    repository: join(place.memory, 'stored'),
    spool: join(place.disk, 'spool'),
    slot,
    replication: server.node.connection(replication),
  }
  makeDirectories(world, options.home)
  const command = [process.execPath, join(import.meta.dirname, 'own-archive.ts'), JSON.stringify(options)]
  const child = start(command, world.runAs)
  return { child, pid: child.pid as number, applicationName: 'archive' }
}

async function startReceivewal(world: BenchWorld, server: BenchServer, place: Place): Promise<Receiver> {
  const applicationName = 'archive2'
  const { host, port } = server.node.connection(replication)
  const program = join(server.binaries.directory, 'pg_receivewal')
  const connection = `host=${host} port=${port} user=${replication.user} application_name=${applicationName}`
  const common = [program, '--no-password', '-d', connection, '--slot', 'bench_receivewal']
  const files = join(place.disk, 'wal')
  makeDirectories(world, files)
  await run([...common, '--create-slot'], world.runAs)
  const child = start([...common, '--synchronous', '-D', files], world.runAs)
  return { child, pid: child.pid as number, applicationName }
}

/** Resolves when it streams and has on disk what was written before. */
async function untilFollowing(server: BenchServer, applicationName: string): Promise<void> {
  const untilMs = performance.now() + startWithinMs
  const sql = `SELECT 1 FROM pg_stat_replication
                WHERE application_name = '${applicationName}' AND state = 'streaming'
                  AND flush_lsn >= pg_current_wal_flush_lsn()`
  while ((await server.query(sql)).length === 0) {
    if (performance.now() > untilMs) throw new Error(`${applicationName} does not follow the log`)
    // A receiver that has nothing to flush says so only now and then.
    await server.query("SELECT pg_logical_emit_message(true, 'bench', '')")
    await delay(20)
  }
}

async function requireSynchronous(server: BenchServer, applicationName: string): Promise<void> {
  const names = { synchronous_standby_names: `FIRST 1 (${applicationName})` }
  await server.node.changeSettings(names, startWithinMs)
  // A commit returns only when the receiver has it; that it counts as synchronous is seen at once.
  await server.query("SELECT pg_logical_emit_message(true, 'bench', '')")
  const [row] = await server.query<{ sync_state: string }>(
    `SELECT sync_state FROM pg_stat_replication WHERE application_name = '${applicationName}'`,
  )
  if (row?.sync_state !== 'sync') throw new Error(`${applicationName} is ${row?.sync_state}, not sync`)
}

/** Prepared single-row inserts. The log of every transaction gives what pgbench itself does not. */
async function pgbench(world: BenchWorld, o: Window, directory: string) {
  const { server, clients, seconds } = o
  const script = join(directory, 'commit.sql')
  writeFileSync(script, commitScript, { mode: 0o644 })
  if (world.runAs) chownSync(script, world.runAs.uid, world.runAs.gid)
  const { host, port } = server.node.connection({ user: superuserName, database: 'postgres' })
  const program = join(server.binaries.directory, 'pgbench')
  const target = ['-h', String(host), '-p', String(port), '-U', superuserName]
  const load = ['-c', `${clients}`, '-j', `${Math.min(2, clients)}`, '-T', `${seconds + warmMs / 1000}`]
  const log = ['-l', '--log-prefix', join(directory, 'transactions')]
  await run(
    [program, '-n', '-M', 'prepared', '-f', script, ...load, ...log, ...target, 'postgres'],
    world.runAs,
  )
  return windowOf(directory, seconds)
}

/** Lines `client transaction microseconds script epoch_seconds microseconds`, the last two of its end. */
function windowOf(directory: string, seconds: number) {
  const files = readdirSync(directory).filter(name => name.startsWith('transactions'))
  const done = files.flatMap(name =>
    readFileSync(join(directory, name), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map(line => line.split(' ').map(Number))
      .map(fields => ({
        ms: (fields[2] ?? 0) / 1000,
        atMs: (fields[4] ?? 0) * 1000 + (fields[5] ?? 0) / 1000,
      })),
  )
  const fromMs = done.reduce((least, one) => Math.min(least, one.atMs), Number.POSITIVE_INFINITY) + warmMs
  const counted = done.filter(one => one.atMs >= fromMs && one.atMs < fromMs + seconds * 1000)
  const sorted = counted.map(one => one.ms).sort((a, b) => a - b)
  const at = (q: number) => sorted[Math.floor(sorted.length * q)] ?? Number.NaN
  return { perSecond: counted.length / seconds, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) }
}

/** A walsender needs a moment to see that its receiver is gone. */
async function dropSlots(server: BenchServer): Promise<void> {
  const untilMs = performance.now() + startWithinMs
  for (;;) {
    await server.query(
      'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active',
    )
    const left = await server.query('SELECT 1 FROM pg_replication_slots')
    if (left.length === 0) return
    if (performance.now() > untilMs) throw new Error('a replication slot is still in use')
    await delay(20)
  }
}

export function hasPgbench(server: BenchServer): boolean {
  return existsSync(join(server.binaries.directory, 'pgbench'))
}
