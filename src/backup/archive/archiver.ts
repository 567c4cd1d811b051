import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn, type Lsn } from '#lib/lsn.ts'
import type { Metrics } from '#lib/metrics.ts'
import type { ReplicationConnection, TimelineEnd } from '#postgres/wire/connection.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { Repository } from '../repository.ts'
import { Backoff } from './backoff.ts'
import { archiveError } from './errors.ts'
import { type ArchiveMetrics, archiveMetrics } from './metrics.ts'
import { claimSpool } from './owner.ts'
import { isAhead, type Meeting, type Position, planStart, startAfterGap, type WalGap } from './position.ts'
import { Receiver } from './receiver.ts'
import { segmentBytesOf } from './segment-size.ts'
import { Shipper } from './shipper.ts'
import { ensureSlot, remakeSlot, type UsableSlot } from './slot.ts'
import { Spool } from './spool.ts'
import { makeSpoolDirectory, systemsIn } from './spool-directory.ts'
import type { SpoolFiles } from './spool-files.ts'
import type { ArchiverState, ArchiverStatus } from './status.ts'
import { ArchiveStore } from './store.ts'
import { fetchHistories } from './timelines.ts'
import { Mark } from './waiters.ts'

export interface ArchiverOptions {
  /** A new connection as the replication role, application_name `archive`. */
  connect(): Promise<ReplicationConnection>
  repository: Repository
  pool: SealPool
  spoolDirectory: string
  spoolLimitBytes: number
  /** Name of the replication slot. */
  slot: string
  /** max_slot_wal_keep_size, for the status. */
  slotKeepBytes?: number
  tailEveryMs: number
  /** For how long a dead archive keeps the next one from storing; 20 s. */
  leaseMs?: number
  clock: Clock
  log: Log
  metrics: Metrics
  /** PostgreSQL has dropped WAL that was not archived: only a new base backup begins a whole chain again. */
  onGap(gap: WalGap): void
  /** For people, in the lease: host and home. */
  holder: string
  /** For tests with faults. */
  files?: SpoolFiles
}

/** What a start waits for a repository that may be away, so that commits do not wait for it. */
const standingWithinMs = 3_000
/** A stream that lasts so long works; what fails sooner is tried less and less often. */
const steadyMs = 1_000
const mostGaps = 20
/** Longer than that, and the status names the disk. */
const slowFlushMs = 2_000

/**
 * The continuous archive: receives all WAL over a replication slot, confirms what is on disk in the spool, and puts it
 * into the repository. It never ends by itself: whatever fails is told in status() and tried again.
 */
export class Archiver {
  readonly #o: ArchiverOptions
  readonly #metrics: ArchiveMetrics
  readonly #holder: string
  readonly #flushed = new Mark('flushed')
  readonly #backoff = new Backoff()
  readonly #gaps: WalGap[] = []
  #state: ArchiverState = 'starting'
  #reason: string | null = null
  #spool: Spool | undefined
  #store: ArchiveStore | undefined
  #shipper: Shipper | undefined
  #predecessor: string | undefined
  #connection: ReplicationConnection | undefined
  #receiver: Receiver | undefined
  #slot: UsableSlot | undefined
  #timeline: number | undefined
  #serverLsn: Lsn | undefined
  /** What the server did not have any more when it was asked for. */
  #removed: Position | undefined
  #failures = 0
  #lastError: ArchiverStatus['lastError'] = null
  #isStopping = false
  #wakeUp: () => void = () => {}
  #running: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(o: ArchiverOptions) {
    this.#o = o
    this.#holder = `${o.holder}, archive ${process.pid}`
    this.#metrics = archiveMetrics(o.metrics)
    this.#metrics.watch({
      lagBytes: () => this.status().lagBytes ?? Number.NaN,
      storedLagBytes: () => this.status().storedLagBytes ?? Number.NaN,
      spoolBytes: () => this.status().spool.bytes,
    })
  }

  /** Begins to work; what does not work yet is tried again. */
  async start(): Promise<void> {
    this.#running ??= this.#run()
  }

  /** Confirms what came, stores the last of it when the repository answers, and lets another archive in. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    this.#isStopping = true
    this.#wakeUp()
    if (this.#receiver) await this.#receiver.stop()
    else this.#connection?.destroy()
    await this.#running
    await this.#shipper?.close()
    await this.#spool?.close()
    this.#setState('stopped', null)
  }

  status(): ArchiverStatus {
    const { spoolLimitBytes, slot, slotKeepBytes } = this.#o
    const spool = this.#spool
    const server = this.#newest(this.#serverLsn, this.#receiver?.serverLsn)
    const flushed = spool?.open?.flushLsn ?? spool?.flushLsn
    const stored = this.#shipper?.stored.lsn
    const behind = (lsn: Lsn | undefined) =>
      server === undefined || lsn === undefined ? null : Math.max(0, Number(server - lsn))
    const lagBytes = behind(flushed)
    return {
      ...this.#condition(),
      systemIdentifier: spool?.systemIdentifier ?? null,
      timeline: this.#timeline ?? null,
      writeLsn: text(spool?.writeLsn),
      flushLsn: text(flushed),
      serverLsn: text(server),
      lagBytes,
      storedLsn: text(stored),
      storedAt: this.#shipper?.storedAt?.toISOString() ?? null,
      storedLagBytes: behind(stored),
      lastSegment: this.#shipper?.lastSegment ?? null,
      spool: {
        directory: spool?.directory ?? null,
        ...(spool?.usage ?? { segments: 0, bytes: 0 }),
        limitBytes: spoolLimitBytes,
      },
      slot: {
        name: slot,
        restartLsn: text(this.#slot && this.#newest(this.#slot.lsn, spool?.flushLsn)),
        keepBytes: slotKeepBytes ?? null,
        leftBytes: slotKeepBytes === undefined || lagBytes === null ? null : slotKeepBytes - lagBytes,
      },
      gaps: [...this.#gaps],
      failures: this.#failures,
      lastError: this.#lastError,
    }
  }

  /** What completes from now on is sealed with a new data key. @throws while the repository is away */
  async rotateKey(): Promise<{ dataKey: string }> {
    if (!this.#store) throw archiveError('ARCHIVE_NOT_READY', { reason: this.#whyLate() })
    return { dataKey: (await this.#store.rotateKey()).id }
  }

  /** @throws ARCHIVE_TIMEOUT */
  untilFlushed(lsn: Lsn, withinMs: number): Promise<void> {
    return this.#flushed.until(lsn, { withinMs, reason: () => this.#whyLate() })
  }

  /** Stores the open segment's bytes as soon as they reach `lsn`. @throws ARCHIVE_TIMEOUT */
  async untilStored(lsn: Lsn, withinMs: number): Promise<void> {
    const untilMs = this.#o.clock.monotonicMs() + withinMs
    await this.untilFlushed(lsn, withinMs)
    const shipper = this.#shipper
    if (!shipper) throw archiveError('ARCHIVE_NOT_READY', { reason: this.#whyLate() })
    shipper.storeTail()
    const leftMs = Math.max(0, untilMs - this.#o.clock.monotonicMs())
    await shipper.stored.until(lsn, { withinMs: leftMs, reason: () => this.#whyLate() })
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      try {
        await this.#session()
      } catch (error) {
        if (!this.#isStopping) this.#noteFailure(error)
      }
      this.#receiver = undefined
      if (this.#isStopping) return
      this.#metrics.reconnects.inc()
      await this.#pause(this.#backoff.nextMs())
    }
  }

  /** One connection, over as many timelines as it lasts. */
  async #session(): Promise<void> {
    const connection = await this.#o.connect()
    this.#connection = connection
    try {
      if (this.#isStopping) return
      const spool = await this.#meet(connection)
      await this.#mayReceive(spool)
      let at = await this.#begin(connection, spool)
      while (!this.#isStopping) {
        const end = await this.#receive(connection, spool, at)
        if (end === 'stopped') return
        at = await this.#switchTimeline(connection, spool, { from: at.timeline, ...end })
      }
    } finally {
      this.#connection = undefined
      await connection.close().catch(() => {})
    }
  }

  /** @throws ARCHIVE_WRONG_SYSTEM, ARCHIVE_ELSEWHERE */
  async #meet(connection: ReplicationConnection): Promise<Spool> {
    const { systemIdentifier, flushLsn } = await connection.identifySystem()
    this.#serverLsn = flushLsn
    const { spoolDirectory } = this.#o
    const others = [...systemsIn(spoolDirectory), ...(this.#spool ? [this.#spool.systemIdentifier] : [])]
    const other = others.find(one => one !== systemIdentifier)
    if (other !== undefined)
      throw archiveError('ARCHIVE_WRONG_SYSTEM', { systemIdentifier, place: spoolDirectory, other })
    this.#spool ??= this.#openSpool(
      systemIdentifier,
      segmentBytesOf(await connection.show('wal_segment_size')),
    )
    return this.#spool
  }

  #openSpool(systemIdentifier: string, segmentBytes: number): Spool {
    const { spoolDirectory: root, spoolLimitBytes: limitBytes, repository, pool, clock, log, files } = this.#o
    const directory = makeSpoolDirectory(root, systemIdentifier)
    this.#predecessor = claimSpool(directory, { holder: this.#holder, now: clock.now() })
    const spool = new Spool({ root, systemIdentifier, segmentBytes, limitBytes, files })
    this.#store = new ArchiveStore({ repository, pool, spool, log })
    this.#shipper = new Shipper({
      spool,
      store: this.#store,
      storage: repository.storage,
      holder: this.#holder,
      tailEveryMs: this.#o.tailEveryMs,
      leaseMs: this.#o.leaseMs,
      clock,
      log,
      metrics: this.#metrics,
      onElsewhere: failure => this.#elsewhere(failure),
    })
    this.#shipper.start()
    return spool
  }

  /**
   * An archive that only lost its process or its repository goes on at once, since commits may wait for it; its slot
   * keeps others out. One that meets a stranger's lease, or has nothing of its own yet, waits.
   */
  async #mayReceive(spool: Spool): Promise<void> {
    const standing = await (this.#shipper as Shipper).standing(standingWithinMs)
    if (standing === 'ours') return
    if (standing !== 'unknown') {
      const { holder, since } = standing.elsewhere.facts
      if (holder !== this.#predecessor || !spool.position())
        throw archiveError('ARCHIVE_ELSEWHERE', { holder, since })
    } else if (!spool.position()) {
      const reason = this.#shipper?.trouble?.reason ?? 'it does not answer'
      throw archiveError('ARCHIVE_NOT_READY', { reason: `The repository: ${reason}` })
    }
  }

  #elsewhere({ facts }: Failure): void {
    if (facts.holder !== this.#predecessor) void this.#receiver?.stop()
  }

  async #begin(connection: ReplicationConnection, spool: Spool): Promise<Position> {
    const server = await connection.identifySystem()
    const ancestors = await fetchHistories(connection, spool, server.timeline)
    this.#slot = await ensureSlot(connection, this.#o.slot)
    if (this.#slot.outcome !== 'kept')
      this.#o.log.warn({ slot: this.#o.slot, outcome: this.#slot.outcome }, 'replication slot created')
    const have = spool.position() ?? (await this.#lastStored())
    const meeting: Meeting = {
      server: { timeline: server.timeline, lsn: server.flushLsn },
      ancestors,
      slot: this.#slot,
      have,
      segmentBytes: spool.segmentBytes,
    }
    const wanted = planStart(meeting)
    const removed = this.#removed
    this.#removed = undefined
    const at =
      removed?.timeline === wanted.timeline && removed.lsn === wanted.lsn
        ? await this.#passGap(connection, spool, meeting, wanted)
        : wanted
    if (have && at.timeline > have.timeline) {
      await spool.closeTimeline(have.timeline, have.end)
      // What was there of the old timeline says nothing about the new one.
      this.#flushed.limit(at.lsn)
      this.#shipper?.stored.limit(at.lsn)
    }
    return at
  }

  async #lastStored() {
    const last = await this.#store?.lastStored()
    if (last) this.#shipper?.stored.advance(last.lsn)
    return last
  }

  /** The server has dropped `wanted`: unless another archive stored it meanwhile, it is in no archive. */
  async #passGap(
    connection: ReplicationConnection,
    spool: Spool,
    meeting: Meeting,
    wanted: Position,
  ): Promise<Position> {
    const stored = await this.#lastStored()
    if (stored && isAhead(stored, wanted)) {
      await spool.closeTimeline(wanted.timeline, wanted.lsn)
      return planStart({ ...meeting, have: stored })
    }
    let at = startAfterGap(meeting, wanted)
    if (!at) {
      this.#slot = await remakeSlot(connection, this.#o.slot)
      at = startAfterGap({ ...meeting, slot: this.#slot }, wanted)
    }
    if (!at)
      throw archiveError('ARCHIVE_SLOT_UNUSABLE', {
        slot: this.#o.slot,
        reason: `PostgreSQL has no WAL at ${formatLsn(wanted.lsn)}`,
      })
    await spool.closeTimeline(wanted.timeline, wanted.lsn)
    this.#reportGap({
      timeline: wanted.timeline,
      from: formatLsn(wanted.lsn),
      to: formatLsn(at.lsn),
      noticedAt: this.#o.clock.now().toISOString(),
    })
    return at
  }

  #reportGap(gap: WalGap): void {
    this.#gaps.push(gap)
    if (this.#gaps.length > mostGaps) this.#gaps.shift()
    this.#metrics.gaps.inc()
    this.#o.log.error(gap, 'PostgreSQL has dropped WAL that was not archived')
    this.#o.onGap(gap)
  }

  async #receive(
    connection: ReplicationConnection,
    spool: Spool,
    at: Position,
  ): Promise<TimelineEnd | 'stopped'> {
    const beganMs = this.#o.clock.monotonicMs()
    const receiver = new Receiver({
      spool,
      clock: this.#o.clock,
      metrics: this.#metrics,
      onBegin: () => this.#begun(at),
      onFlush: lsn => {
        this.#flushed.advance(lsn)
        if (this.#o.clock.monotonicMs() - beganMs > steadyMs) this.#backoff.reset()
      },
    })
    this.#receiver = receiver
    this.#timeline = at.timeline
    try {
      return await receiver.run(connection, { ...at, slot: this.#o.slot })
    } catch (error) {
      if (isFailure(error, 'WIRE_WAL_REMOVED')) this.#removed = spool.position() ?? at
      if (isFailure(error, 'WIRE_SLOT_LOST')) await remakeSlot(connection, this.#o.slot)
      throw error
    } finally {
      this.#serverLsn = this.#newest(this.#serverLsn, receiver.serverLsn)
    }
  }

  #begun(at: Position): void {
    this.#o.log.info({ timeline: at.timeline, lsn: formatLsn(at.lsn) }, 'WAL streaming began')
    this.#flushed.advance(at.lsn)
    this.#setState('streaming', null)
  }

  async #switchTimeline(
    connection: ReplicationConnection,
    spool: Spool,
    o: TimelineEnd & { from: number },
  ): Promise<Position> {
    const { from, nextTimeline: timeline, switchLsn } = o
    this.#o.log.info({ from, to: timeline, lsn: formatLsn(switchLsn) }, 'timeline ended')
    await fetchHistories(connection, spool, timeline)
    await spool.closeTimeline(from, switchLsn)
    this.#flushed.limit(switchLsn)
    this.#shipper?.stored.limit(switchLsn)
    return { timeline, lsn: switchLsn - (switchLsn % BigInt(spool.segmentBytes)) }
  }

  #noteFailure(error: unknown): void {
    this.#failures++
    this.#metrics.failures.inc()
    const message = (error as Error).message
    const isConflict = conflicts.some(code => isFailure(error, code))
    if (this.#reason !== message) {
      this.#o.log[isConflict ? 'error' : 'warn']({ err: error }, 'WAL streaming ended')
      if (isConflict) this.#metrics.conflicts.inc()
    }
    this.#lastError = { message, at: this.#o.clock.now().toISOString() }
    this.#setState(isConflict ? 'conflict' : 'waiting', message)
  }

  #setState(state: ArchiverState, reason: string | null): void {
    this.#state = state
    this.#reason = reason
  }

  /** The state with what is seen only now, the gravest first. */
  #condition(): { state: ArchiverState; reason: string | null } {
    const trouble = this.#shipper?.trouble
    const own = { state: this.#state, reason: this.#reason }
    if (own.state === 'conflict' || own.state === 'stopped') return own
    if (trouble?.kind === 'conflict') return { state: 'conflict', reason: trouble.reason }
    if (own.state !== 'streaming') return own
    const receiver = this.#receiver
    if (receiver?.waitsForRoom) {
      const why = trouble?.reason ?? 'The repository takes it more slowly than it comes.'
      return { state: 'waiting', reason: `The spool is full and PostgreSQL keeps its WAL. ${why}` }
    }
    const slowMs = receiver?.flushingMs ?? 0
    if (slowMs > slowFlushMs)
      return {
        state: 'waiting',
        reason: `The disk of the spool has not taken WAL for ${Math.round(slowMs)} ms.`,
      }
    return { ...own, reason: trouble?.reason ?? null }
  }

  #whyLate(): string {
    const { state, reason } = this.#condition()
    return reason ?? `The archive is ${state}.`
  }

  #newest(a: Lsn | undefined, b: Lsn | undefined): Lsn | undefined {
    return a === undefined || (b !== undefined && b > a) ? b : a
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms)
      this.#wakeUp = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

const conflicts = [
  'ARCHIVE_WRONG_SYSTEM',
  'ARCHIVE_SERVER_BEHIND',
  'ARCHIVE_WAL_DIFFERS',
  'ARCHIVE_HISTORY_DIFFERS',
]

function isFailure(error: unknown, code: string): error is Failure {
  return error instanceof Failure && error.code === code
}

function text(lsn: Lsn | undefined): string | null {
  return lsn === undefined ? null : formatLsn(lsn)
}
