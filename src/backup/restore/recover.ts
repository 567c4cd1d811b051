import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, systemClock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { syncDirectory } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { type Lsn, segmentName, segmentStart } from '#lib/lsn.ts'
import type { Binaries } from '#postgres/server/binaries.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'
import { createNode, type PostgresNode } from '#postgres/server/node.ts'
import type { StopMode } from '#postgres/server/stop.ts'
import { parseHistory } from '../archive/history.ts'
import { cleanConfiguration } from './configuration.ts'
import { refuseEarlyEnd } from './end-of-log.ts'
import { restoreError } from './errors.ts'
import type { RestorePlan } from './plan.ts'
import { readRecoveryLog } from './recovery-log.ts'
import { recoverySettings } from './recovery-settings.ts'
import type { StoredWal } from './stored-wal.ts'
import { describeTarget } from './target.ts'
import { WalServer } from './wal-server.ts'

export interface RecoverOptions {
  /** As layDatabase() left it. */
  dataDirectory: string
  plan: RestorePlan
  wal: StoredWal
  /** Of the server that was backed up. */
  original: Readonly<Record<string, string>>
  binaries: Binaries
  runAs?: RunAs | undefined
  /** Where PostgreSQL writes `recovery.log`. */
  logDirectory: string
  durable: boolean
  /** Given up after this; a recovery that goes on is not a failure before. */
  withinMs: number
  /** See WalServerOptions. */
  patience?: number
  signal?: AbortSignal | undefined
  onProgress?: ((progress: { segmentsDone: number; segmentsTotal: number }) => void) | undefined
  log: Log
  clock?: Clock
}

export interface Recovered {
  /** Running, promoted, reachable over a private socket. */
  node: PostgresNode
  /** Behind the last record that was replayed. */
  replayedTo: Lsn
  /** The new one. */
  timeline: number
  lastCommitAt?: Date
  consistentAt?: Date
  replayedAt?: Date
  segments: number
  /** Stops the server in order and takes away what only the recovery needed. */
  finish(): Promise<void>
  /** Stops it at once. */
  abandon(): Promise<void>
}

const logName = 'recovery.log'
const stopWithinMs = 600_000

/**
 * Replays the log into a laid directory up to the target and promotes it. Resolves when the server answers; everything
 * else, a log that ended too early included, ends with the server stopped.
 * @throws RESTORE_RECOVERY_FAILED, RESTORE_ENDED_EARLY, RESTORE_TARGET_UNREACHABLE, RESTORE_CANCELLED, and what kept the
 * log from being handed out
 */
export async function recover(options: RecoverOptions): Promise<Recovered> {
  const { dataDirectory, plan, wal, runAs, log } = options
  const removed = cleanConfiguration(dataDirectory, runAs)
  if (removed.length > 0) log.info({ removed }, 'settings of the original were left out')
  const socketDirectory = makeSocketDirectory(options)
  let segments = 0
  const server = WalServer.start({
    directory: `${dataDirectory}.wal`,
    source: wal,
    expected: plan.wal.segments,
    runAs,
    log,
    ...(options.patience === undefined ? {} : { patience: options.patience }),
    onServed: (file, behind) => {
      if (!file.endsWith('.history')) segments++
      options.onProgress?.({ segmentsDone: behind, segmentsTotal: plan.wal.segments.length })
    },
  })
  const node = nodeFor(options, socketDirectory, server.restoreCommand)
  const stop = async (mode: StopMode) => {
    await node.stop({ mode, withinMs: stopWithinMs })
    rmSync(socketDirectory, { recursive: true, force: true })
  }
  const finish = async () => {
    await stop('fast')
    forgetRecovery(dataDirectory)
  }
  try {
    await start(options, node, server)
    const facts = readRecoveryLog(join(options.logDirectory, logName))
    const { timeline, replayedTo } = newTimeline(dataDirectory)
    await refuseLostLog(options, replayedTo)
    return { node, timeline, replayedTo, segments, ...facts, finish, abandon: () => stop('immediate') }
  } catch (error) {
    await stop('immediate')
    throw error
  } finally {
    server.close()
  }
}

// sun_path ends at 104 bytes on macOS; PostgreSQL puts .s.PGSQL.61432.lock into the directory.
const longestSocketDirectory = 80

/** Beside the data directory, where it goes with it; in the temp folder when that path is too long for a socket. */
function makeSocketDirectory({ dataDirectory, runAs }: RecoverOptions): string {
  const beside = `${dataDirectory}.run`
  const isShort = Buffer.byteLength(beside) <= longestSocketDirectory
  const path = isShort ? beside : mkdtempSync(join(tmpdir(), 'my-r-'))
  mkdirSync(path, { recursive: true, mode: 0o700 })
  if (runAs) chownSync(path, runAs.uid, runAs.gid)
  return path
}

function nodeFor(options: RecoverOptions, socketDirectory: string, restoreCommand: string): PostgresNode {
  const { dataDirectory, plan, binaries, runAs, logDirectory, log, clock = systemClock } = options
  mkdirSync(logDirectory, { recursive: true, mode: 0o700 })
  if (runAs) chownSync(logDirectory, runAs.uid, runAs.gid)
  // An older log would be taken for this one's.
  rmSync(join(logDirectory, logName), { force: true })
  return createNode({
    name: 'restore',
    dataDirectory,
    binaries,
    runAs,
    socketDirectory,
    // Nothing listens there; it names the socket.
    port: 61_432,
    logDirectory,
    log,
    clock,
    settings: recoverySettings({
      target: plan.target,
      timeline: plan.timeline,
      restoreCommand,
      original: options.original,
      logName,
      durable: options.durable,
    }),
  })
}

async function start(options: RecoverOptions, node: PostgresNode, server: WalServer): Promise<void> {
  const { signal } = options
  const stop = () => void node.stop({ mode: 'immediate', withinMs: stopWithinMs })
  signal?.addEventListener('abort', stop, { once: true })
  try {
    if (!signal?.aborted) await node.start(options.withinMs)
  } catch (error) {
    if (!signal?.aborted) throw server.failure ?? explained(error, options)
  } finally {
    signal?.removeEventListener('abort', stop)
  }
  if (signal?.aborted) throw restoreError('RESTORE_CANCELLED', { directory: options.dataDirectory })
}

/** PostgreSQL's last words, as one of our rows. */
function explained(error: unknown, { plan, logDirectory }: RecoverOptions): unknown {
  if (!(error instanceof Failure) || error.code !== 'POSTGRES_START_FAILED') return error
  const reason = String(error.facts.reason)
  const facts = { reason, logFile: join(logDirectory, logName) }
  if (!reason.includes('before configured recovery target was reached'))
    return restoreError('RESTORE_RECOVERY_FAILED', facts, { cause: error })
  const window = { from: plan.backup.database.stopTime, to: 'the last commit of the write-ahead log' }
  const target = describeTarget(plan.target)
  const why = 'the write-ahead log ends before it'
  return restoreError('RESTORE_TARGET_UNREACHABLE', { target, reason: why, ...window }, { cause: error })
}

/** The promotion wrote where it left the old timeline: that is where the replay ended (timeline.c). */
function newTimeline(dataDirectory: string): { timeline: number; replayedTo: Lsn } {
  const wal = join(dataDirectory, 'pg_wal')
  const names = readdirSync(wal).filter(name => /^[0-9A-F]{8}\.history$/.test(name))
  const newest = names.sort().at(-1)
  const last = newest && parseHistory(readFileSync(join(wal, newest))).at(-1)
  if (!newest || !last) throw new Error(`the promotion left no history in ${wal}`)
  return { timeline: Number.parseInt(newest.slice(0, 8), 16), replayedTo: last.switchLsn }
}

/** A time or name that PostgreSQL says it has reached was reached; the end of the log could be anywhere. */
async function refuseLostLog({ plan, wal }: RecoverOptions, replayedTo: Lsn): Promise<void> {
  if (plan.target.kind === 'time' || plan.target.kind === 'name') return
  const { segmentBytes } = plan.backup.database
  const segment = async (start: Lsn) => {
    // The newest timeline first, as PostgreSQL looks for it.
    for (const stretch of plan.path.toReversed()) {
      if (segmentStart(stretch.from, segmentBytes) > start || (stretch.until ?? start + 1n) <= start) continue
      const piece = await wal.segment(segmentName(stretch.timeline, start, segmentBytes))
      if (piece) return piece.bytes.subarray(0, Number(piece.end - start))
    }
    return undefined
  }
  await refuseEarlyEnd({ replayedTo, end: wal.end, segmentBytes, segment })
}

/** The next start writes moonyetis.conf anew; until then nothing of this recovery is in it. */
function forgetRecovery(dataDirectory: string): void {
  for (const name of ['moonyetis.conf', 'recovery.signal', 'backup_label.old', 'tablespace_map.old'])
    rmSync(join(dataDirectory, name), { force: true })
  syncDirectory(dataDirectory)
}
