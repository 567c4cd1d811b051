import { join } from 'node:path'
import { systemClock } from '#lib/clock.ts'
import { serveControl } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'
import { Lifecycle, onShutdown } from '#lib/lifecycle.ts'
import { createLog, type Log } from '#lib/log.ts'
import { removeRecord, writeRecord } from '#lib/processes.ts'
import { type Chain, recordChain } from '#postgres/client/installation.ts'
import { migrate } from '#postgres/client/migrations.ts'
import { databaseName, roleNames } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { bootstrapDatabase, type ServerIdentity, withoutWaiting } from '#postgres/server/bootstrap.ts'
import { readSystemIdentifier } from '#postgres/server/control-file.ts'
import { type KeeperState, NodeKeeper } from '#postgres/server/keeper.ts'
import { createNode, type PostgresNode } from '#postgres/server/node.ts'
import { ensurePasswords } from '#postgres/server/passwords.ts'
import { dataDirectoryOf, firstNode, logDirectoryOf, socketDirectoryOf } from '#postgres/server/places.ts'
import { beginRecovery } from '#postgres/server/recovery.ts'
import { archiveMember } from '#replication/names.ts'
import { SynchronousSet, type SynchronousStatus } from '#replication/synchronous-set.ts'
import { type ReplicationMode, type Topology, TopologyFile } from '#replication/topology.ts'

export interface SuperviseConfig {
  bin?: string
  port: number
  sharedBuffersMegabytes: number
  startWithinSeconds: number
  stopWithinSeconds: number
}

/** What supervise needs to know of the WAL archive. */
export interface ArchiveConfig {
  /** sync: commits wait for it. */
  walMode: 'async' | 'sync'
  /** WAL that PostgreSQL keeps for it while it is away. */
  slotKeepMegabytes: number
}

export interface SuperviseOptions {
  home: Home
  programRoot: string
  config: SuperviseConfig
  replication: { mode: ReplicationMode; availabilityTimeoutSeconds: number }
  archive: ArchiveConfig
  logLevel: string
  /** Written into a new database; another one in an old database is refused. */
  chain: Chain
}

/** The answer of GET /status on run/supervise.sock. */
export interface SuperviseStatus {
  state: KeeperState
  reason: string
  ready: boolean
  node: {
    name: string
    version: string
    port?: number
    socketDirectory?: string
    pid?: number
    timeline?: number
    systemIdentifier?: string
  }
  mode: ReplicationMode
  walMode: ArchiveConfig['walMode']
  synchronous?: SynchronousStatus
  topology?: Topology
}

/**
 * Owns the embedded PostgreSQL of a home until a signal: adopts or starts it, keeps it running, stops it in the end.
 * Its own sudden death leaves PostgreSQL running, for the next one to adopt.
 */
export async function supervise(options: SuperviseOptions): Promise<void> {
  const { home, config } = options
  const log = createLog({
    role: 'supervise',
    level: options.logLevel,
    fallbackFile: join(home.logs, 'orphans.log'),
  })
  const lifecycle = new Lifecycle({ log })
  const node = nodeOf(options, log)
  let identity: ServerIdentity | undefined
  let synchronous: SynchronousSet | undefined
  const keeper = new NodeKeeper({
    node,
    log,
    clock: systemClock,
    startWithinMs: config.startWithinSeconds * 1000,
    prepare: async () => {
      identity = await bootstrapDatabase({ node, passwords: ensurePasswords(home), log })
      synchronous?.identify(identity)
      await migrateDatabase(node, options.programRoot, options.chain, log)
      await beginRecovery({ node, log })
    },
  })
  // First of all: whoever listens here is the only one who may touch PostgreSQL.
  const routes = {
    'GET /status': () => ({
      ...statusOf(keeper, node, identity),
      ...replicationStatus(options, synchronous),
    }),
  }
  const path = home.socket('supervise')
  await lifecycle.open(
    'control socket',
    () => serveControl({ path, routes, log }),
    control => control.close(),
  )
  await lifecycle.open(
    'process record',
    () => writeRecord(home, 'supervise', process.pid),
    () => removeRecord(home, 'supervise'),
  )
  synchronous = await lifecycle.open(
    'synchronous set',
    () => openSynchronousSet(options, node, log),
    one => one.stop(),
  )
  const stopping = () => void synchronous?.stop()
  await untilStopped(keeper, config, log, stopping).finally(() => lifecycle.close())
}

/** Throws TOPOLOGY_INVALID, TOPOLOGY_OTHER_SYSTEM, TOPOLOGY_DATA_MISSING, before anything of PostgreSQL is touched. */
async function openSynchronousSet(
  { home, replication, archive }: SuperviseOptions,
  node: PostgresNode,
  log: Log,
): Promise<SynchronousSet> {
  const topology = new TopologyFile(home)
  topology.refuseOther(node.dataDirectory, readSystemIdentifier(node.dataDirectory))
  const rules = {
    mode: replication.mode,
    wanted: archive.walMode === 'sync' ? [archiveMember] : [],
    timeoutMs: replication.availabilityTimeoutSeconds * 1000,
  }
  const set = new SynchronousSet({ node, topology, rules, log, clock: systemClock })
  await set.prepare()
  set.start()
  return set
}

function nodeOf({ home, programRoot, config, archive }: SuperviseOptions, log: Log): PostgresNode {
  return createNode({
    name: firstNode,
    dataDirectory: dataDirectoryOf(home),
    binaries: findBinaries({ bin: config.bin, programRoot }),
    socketDirectory: socketDirectoryOf(home),
    port: config.port,
    logDirectory: logDirectoryOf(home),
    sharedBuffersMegabytes: config.sharedBuffersMegabytes,
    settings: { max_slot_wal_keep_size: `${archive.slotKeepMegabytes}MB` },
    log,
    clock: systemClock,
  })
}

async function migrateDatabase(
  node: PostgresNode,
  programRoot: string,
  chain: Chain,
  log: Log,
): Promise<void> {
  const owner = node.connection({ user: roleNames.owner, database: databaseName })
  const connection = { ...owner, options: withoutWaiting }
  const { applied, version } = await migrate({ connection, directory: join(programRoot, 'migrations'), log })
  await recordChain(connection, chain)
  if (applied.length > 0)
    log.info({ applied: applied.length, version }, 'database schema was brought up to date')
}

async function untilStopped(
  keeper: NodeKeeper,
  config: SuperviseConfig,
  log: Log,
  onStop: () => void,
): Promise<void> {
  const { promise: stopped, resolve, reject } = Promise.withResolvers<void>()
  const undo = onShutdown(['SIGTERM', 'SIGINT', 'SIGHUP'], (signal, count) => {
    log.info({ signal, count }, 'stop was asked for')
    // No decision is taken about a server that is going down: that its members leave it is no failure of theirs.
    onStop()
    const stop = {
      mode: count === 1 ? 'fast' : 'immediate',
      withinMs: config.stopWithinSeconds * 1000,
    } as const
    keeper.stop(stop).then(resolve, reject)
  })
  try {
    // run() ends early when a stop begins; what counts then is that PostgreSQL has stopped.
    await Promise.race([stopped, keeper.run().then(() => stopped)])
  } finally {
    undo()
  }
}

function statusOf(
  keeper: NodeKeeper,
  node: PostgresNode,
  identity: ServerIdentity | undefined,
): Pick<SuperviseStatus, 'state' | 'reason' | 'ready' | 'node'> {
  const { running } = node
  const where = running && { port: running.port, socketDirectory: running.socketDirectory, pid: running.pid }
  return {
    state: keeper.state,
    reason: keeper.reason,
    ready: keeper.ready,
    node: { name: node.name, version: node.version, ...where, ...identity },
  }
}

function replicationStatus(
  { replication, archive }: SuperviseOptions,
  set: SynchronousSet | undefined,
): Pick<SuperviseStatus, 'mode' | 'walMode' | 'synchronous' | 'topology'> {
  const topology = set?.topology
  return {
    mode: replication.mode,
    walMode: archive.walMode,
    ...(set ? { synchronous: set.status() } : {}),
    ...(topology ? { topology } : {}),
  }
}
