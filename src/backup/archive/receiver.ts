import type { Clock } from '#lib/clock.ts'
import type { Lsn } from '#lib/lsn.ts'
import type { ReplicationConnection, TimelineEnd, WalSink, WalStream } from '#postgres/wire/connection.ts'
import type { ArchiveMetrics } from './metrics.ts'
import type { Position } from './position.ts'
import type { Spool } from './spool.ts'

/** Another answer than the wire's own, for a disk that stalls while nothing new comes. */
const answerEveryMs = 1_000

/** One stream from the server into the spool: what came is written at once and confirmed when it is on disk. */
export class Receiver {
  readonly #spool: Spool
  readonly #clock: Clock
  readonly #metrics: ArchiveMetrics
  readonly #onBegin: () => void
  readonly #onFlush: (lsn: Lsn) => void
  #stream: WalStream | undefined
  #connection: ReplicationConnection | undefined
  #flushing: Promise<void> | undefined
  #flushBeganMs: number | undefined
  #flushAgain = false
  #failure: unknown
  #isStopped = false
  readonly #over = Promise.withResolvers<void>()
  #serverLsn: Lsn | undefined
  #waitsForRoom = false

  constructor(o: {
    spool: Spool
    clock: Clock
    metrics: ArchiveMetrics
    onBegin(): void
    onFlush(lsn: Lsn): void
  }) {
    this.#spool = o.spool
    this.#clock = o.clock
    this.#metrics = o.metrics
    this.#onBegin = o.onBegin
    this.#onFlush = o.onFlush
  }

  /** How far the server's WAL went when it last spoke. */
  get serverLsn(): Lsn | undefined {
    return this.#serverLsn
  }

  /** The spool is at its limit and PostgreSQL keeps the rest. */
  get waitsForRoom(): boolean {
    return this.#waitsForRoom
  }

  /** How long the disk has been taking over the flush that is under way. */
  get flushingMs(): number {
    return this.#flushBeganMs === undefined ? 0 : this.#clock.monotonicMs() - this.#flushBeganMs
  }

  /**
   * Streams from the position until the timeline ends, stop() or a failure; what was received is on disk then, unless
   * the disk failed, and the spool can be asked where to go on.
   */
  async run(
    connection: ReplicationConnection,
    o: Position & { slot: string },
  ): Promise<TimelineEnd | 'stopped'> {
    await this.#spool.beginAt(o)
    this.#connection = connection
    const { slot, timeline, lsn: start } = o
    const timer = setInterval(() => this.#confirm(), answerEveryMs)
    try {
      this.#stream = await connection.streamWal({ slot, timeline, start }, this.#sink())
      this.#onBegin()
      this.#confirm()
      if (this.#isStopped) void this.#stream.stop()
      const end = await this.#stream.ended
      await this.#flush()
      return end
    } catch (error) {
      await this.#flushing?.catch(() => {})
      await this.#spool.flush().catch(() => this.#spool.abandon())
      if (this.#failure) await this.#spool.abandon()
      if (this.#isStopped && !this.#failure) return 'stopped'
      throw this.#failure ?? error
    } finally {
      clearInterval(timer)
      this.#stream = undefined
    }
  }

  /** Confirms what it has, then ends the stream; run() resolves. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#over.resolve()
    await this.#flush().catch(() => {})
    this.#confirm()
    await this.#stream?.stop()
  }

  #sink(): WalSink {
    return {
      data: (start, bytes, serverEnd) => {
        this.#serverLsn = serverEnd
        this.#metrics.receivedBytes.inc(bytes.length)
        if (this.#spool.isFullFor(start, bytes.length)) return this.#writeLater(start, bytes)
        this.#spool.write(start, bytes)
      },
      keepalive: (serverEnd, replyNow) => {
        this.#serverLsn = serverEnd
        if (replyNow) this.#confirm()
      },
      // Not awaited: a disk that stalls must not keep keepalives from being read and answered.
      turn: () => this.#startFlush(),
    }
  }

  /** Reading pauses meanwhile; what is in the spool goes on being flushed, and PostgreSQL keeps the rest. */
  async #writeLater(start: Lsn, bytes: Buffer): Promise<void> {
    this.#waitsForRoom = true
    this.#startFlush()
    try {
      while (this.#spool.isFullFor(start, bytes.length)) {
        if (this.#isStopped || this.#failure) throw this.#failure ?? new Error('stopped')
        await Promise.race([this.#spool.room(), this.#over.promise])
      }
      this.#spool.write(start, bytes)
    } finally {
      this.#waitsForRoom = false
    }
  }

  #startFlush(): void {
    this.#flush().catch(() => {})
  }

  /** One fdatasync at a time; what comes meanwhile shares the next one. */
  #flush(): Promise<void> {
    this.#flushAgain = true
    this.#flushing ??= this.#flushAll().finally(() => {
      this.#flushing = undefined
    })
    return this.#flushing
  }

  async #flushAll(): Promise<void> {
    while (this.#flushAgain && !this.#failure) {
      this.#flushAgain = false
      if (this.#spool.writeLsn === undefined || this.#spool.writeLsn === this.#spool.flushLsn) continue
      this.#flushBeganMs = this.#clock.monotonicMs()
      try {
        const lsn = await this.#spool.flush()
        this.#metrics.flushSeconds.observe(this.flushingMs / 1000)
        this.#confirm()
        this.#onFlush(lsn)
      } catch (error) {
        this.#fail(error)
        throw error
      } finally {
        this.#flushBeganMs = undefined
      }
    }
  }

  #fail(error: unknown): void {
    this.#failure = error
    this.#over.resolve()
    this.#connection?.destroy()
  }

  #confirm(): void {
    const { writeLsn, flushLsn } = this.#spool
    if (writeLsn === undefined || flushLsn === undefined || this.#failure) return
    this.#stream?.confirm({ write: writeLsn, flush: flushLsn })
  }
}
