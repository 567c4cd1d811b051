import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { acquireLease, type Lease } from '#storage/lease.ts'
import type { Storage } from '#storage/storage.ts'
import { layout } from '../layout.ts'
import { Backoff } from './backoff.ts'
import type { ArchiveMetrics } from './metrics.ts'
import type { Spool } from './spool.ts'
import type { ClosedSegment, SpooledSegment } from './spool-directory.ts'
import type { ArchiveStore } from './store.ts'
import { Mark } from './waiters.ts'

/** Three renewals, and a store that takes its time for one of them. */
const usualLeaseMs = 20_000
/** How late a lost lease is seen when nothing is to be stored. */
const mostSleepMs = 5_000
/** What a stop waits for a repository that does not answer. */
const stopWithinMs = 5_000

export interface ShipperOptions {
  spool: Spool
  store: ArchiveStore
  storage: Storage
  holder: string
  tailEveryMs: number
  /** After a crash the next one stores nothing for that long. */
  leaseMs?: number | undefined
  clock: Clock
  log: Log
  metrics: ArchiveMetrics
  /** Another archive has the lease. */
  onElsewhere(failure: Failure): void
}

export interface Trouble {
  kind: 'waiting' | 'conflict'
  reason: string
}

/**
 * Puts what the spool holds into the repository, oldest first, one object at a time. It waits for the repository for as
 * long as it takes and never holds the receiver up.
 */
export class Shipper {
  readonly stored = new Mark('stored')
  readonly #o: ShipperOptions
  readonly #stop = new AbortController()
  readonly #backoff = new Backoff()
  #lease: Lease | undefined
  #taking: Promise<Lease> | undefined
  /** Who has the lease, as last seen. */
  #elsewhere: Failure | undefined
  #isSystemChecked = false
  #trouble: Trouble | undefined
  #storedAt: Date | undefined
  #lastSegment: string | undefined
  #tailWanted = false
  #tailTriedMs: number
  #running: Promise<void> | undefined
  #wake: () => void = () => {}

  constructor(o: ShipperOptions) {
    this.#o = o
    this.#tailTriedMs = o.clock.monotonicMs()
    o.spool.onComplete = () => this.#wake()
    // What is not in the spool any more is stored.
    const first = this.#oldest() ?? o.spool.open
    if (first) this.stored.advance(first.start)
  }

  get trouble(): Trouble | undefined {
    if (this.#trouble || !this.#elsewhere) return this.#trouble
    return { kind: 'waiting', reason: this.#elsewhere.message }
  }

  get storedAt(): Date | undefined {
    return this.#storedAt
  }

  get lastSegment(): string | undefined {
    return this.#lastSegment
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** The open segment too, now. */
  storeTail(): void {
    this.#tailWanted = true
    this.#wake()
  }

  /**
   * Whether this archive has the lease. Unknown when the repository does not say so in time.
   * @throws ARCHIVE_WRONG_SYSTEM
   */
  async standing(withinMs: number): Promise<'ours' | 'unknown' | { elsewhere: Failure }> {
    if (this.#holdsLease) return 'ours'
    if (this.#elsewhere) return { elsewhere: this.#elsewhere }
    try {
      const late = delay(withinMs, 'late' as const, { ref: false })
      return (await Promise.race([this.#takeLease(), late])) === 'late' ? 'unknown' : 'ours'
    } catch (error) {
      if (error instanceof Failure && error.code === 'LEASE_HELD') return { elsewhere: error }
      if (error instanceof Failure && error.code === 'ARCHIVE_WRONG_SYSTEM') throw error
      return 'unknown'
    }
  }

  /** Stores the last bytes if the repository answers soon, and lets another one in. */
  async close(): Promise<void> {
    this.#stop.abort()
    this.#wake()
    const isIdle = await endsSoon(this.#running)
    if (isIdle && this.#lease && !this.#trouble) {
      const last = this.#round({ withTail: true }).catch(error => {
        this.#o.log.warn({ err: error }, 'last WAL bytes were not stored; they stay in the spool')
      })
      await endsSoon(last)
    }
    await endsSoon(this.#lease?.release())
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      if (!this.#isDue()) await this.#sleep(this.#untilTailMs())
      if (this.#stop.signal.aborted || !this.#isDue()) continue
      try {
        await this.#round({ withTail: this.#isTailDue() })
        if (this.#trouble) this.#o.log.info('the repository takes WAL again')
        this.#trouble = undefined
        this.#backoff.reset()
      } catch (error) {
        if (this.#stop.signal.aborted) return
        if (this.#note(error)) return
        await this.#sleep(this.#backoff.nextMs())
      }
    }
  }

  get #holdsLease(): boolean {
    return this.#lease !== undefined && !this.#lease.lost.aborted
  }

  /** @throws LEASE_HELD, ARCHIVE_WRONG_SYSTEM, and what the storage throws */
  #takeLease(): Promise<Lease> {
    if (this.#lease && this.#holdsLease) return Promise.resolve(this.#lease)
    this.#taking ??= this.#acquire().finally(() => {
      this.#taking = undefined
    })
    return this.#taking
  }

  async #acquire(): Promise<Lease> {
    const { spool, store, storage, holder, clock, log, leaseMs: ttlMs = usualLeaseMs } = this.#o
    if (!this.#isSystemChecked) await store.checkSystem()
    this.#isSystemChecked = true
    const prefix = layout.locks(`archive-${spool.systemIdentifier}`)
    const { signal } = this.#stop
    // Watched for a whole ttl, a dead holder is passed over whatever its clock says.
    const waitMs = this.#elsewhere ? 2 * ttlMs : 0
    try {
      this.#lease = await acquireLease({
        storage,
        prefix,
        holder,
        ttlMs,
        clock,
        log,
        signal,
        waitMs,
      })
      this.#elsewhere = undefined
      return this.#lease
    } catch (error) {
      const isHeld = error instanceof Failure && error.code === 'LEASE_HELD'
      this.#elsewhere = isHeld ? error : undefined
      throw error
    }
  }

  async #round(o: { withTail: boolean }): Promise<void> {
    const { spool, store, metrics } = this.#o
    const lease = await this.#takeLease()
    for (let one = this.#oldest(); one; one = this.#oldest()) {
      await lease.check()
      if ('end' in one) await store.putTail(one, Number(one.end - one.start), { isClosed: true })
      else await store.putSegment(one)
      spool.remove(one)
      if (!('end' in one)) metrics.segmentsStored.inc()
      this.#lastSegment = one.segment
      this.#noteStored('end' in one ? one.end : one.start + BigInt(spool.segmentBytes))
      this.#trouble = undefined
    }
    if (!o.withTail) return
    this.#tailWanted = false
    this.#tailTriedMs = this.#o.clock.monotonicMs()
    const { open } = spool
    if (!open) return
    await lease.check()
    if (await store.putTail(open, Number(open.flushLsn - open.start))) metrics.tailsStored.inc()
    this.#noteStored(open.flushLsn)
  }

  #oldest(): SpooledSegment | ClosedSegment | undefined {
    const [whole] = this.#o.spool.complete
    const [closed] = this.#o.spool.closed
    if (!whole || !closed) return whole ?? closed
    return closed.timeline < whole.timeline ||
      (closed.timeline === whole.timeline && closed.start < whole.start)
      ? closed
      : whole
  }

  #noteStored(lsn: bigint): void {
    this.#storedAt = this.#o.clock.now()
    this.stored.advance(lsn)
  }

  #isDue(): boolean {
    return !this.#holdsLease || this.#oldest() !== undefined || this.#isTailDue()
  }

  #isTailDue(): boolean {
    if (this.#tailWanted) return true
    const { open } = this.#o.spool
    const isNew = open !== undefined && open.flushLsn > open.start && open.flushLsn !== this.stored.lsn
    return isNew && this.#untilTailMs() <= 0
  }

  #untilTailMs(): number {
    return this.#tailTriedMs + this.#o.tailEveryMs - this.#o.clock.monotonicMs()
  }

  /** Until there is something to do, at most that long. */
  #sleep(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, Math.min(mostSleepMs, ms > 0 ? ms : this.#o.tailEveryMs))
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** True when trying again cannot help. */
  #note(error: unknown): boolean {
    const { log, metrics, onElsewhere } = this.#o
    const failure = error instanceof Failure ? error : undefined
    const isConflict = conflicts.has(failure?.code ?? '')
    const reason = failure?.message ?? (error as Error).message
    if (this.#trouble?.reason !== reason) {
      log[isConflict ? 'error' : 'warn']({ err: error }, 'WAL was not stored')
      if (isConflict) metrics.conflicts.inc()
    }
    metrics.failures.inc()
    this.#trouble = { kind: isConflict ? 'conflict' : 'waiting', reason }
    if (failure?.code === 'LEASE_HELD') onElsewhere(failure)
    return failure?.code === 'ARCHIVE_SEGMENT_CONFLICT'
  }
}

/** Whether it did. */
async function endsSoon(work: Promise<void> | undefined): Promise<boolean> {
  const late = delay(stopWithinMs, 'late' as const, { ref: false })
  return (await Promise.race([work, late])) !== 'late'
}

const conflicts = new Set(['ARCHIVE_SEGMENT_CONFLICT', 'ARCHIVE_WRONG_SYSTEM'])
