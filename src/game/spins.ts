import { Batcher, type Settled } from '#ledger/batcher.ts'
import { ledgerError } from '#ledger/errors.ts'
import type { IdempotencyKey } from '#ledger/keys.ts'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Channel } from '#postgres/client/channel.ts'
import { databaseError } from '#postgres/client/errors.ts'
import { isDistress, isPassing, isPoison, isReadOnly } from '#postgres/client/sql-states.ts'
import { gameError } from './errors.ts'
import type { GameMetrics, SpinOutcome } from './metrics.ts'
import { readStoredSpins, type StoredSpin } from './outcomes.ts'
import { planGroups } from './plan.ts'
import { renderSpin, type SpinRecord } from './render.ts'
import type { Seat, Seats } from './seats.ts'
import { type GroupOutcome, settleMany, settleOne, spinRecord } from './settlement.ts'
import { drawAt, type SpinJob, type SpinResult, spinRequest } from './spin-job.ts'

export interface SpinsOptions {
  channel: Channel
  seats: Seats
  gameVersion: () => number
  clock: Clock
  log: Log
  metrics: GameMetrics
  maxBatch?: number
  maxQueue?: number
  /** How long a spin may wait for the database before its caller is told to come again. */
  patienceMs?: number
}

// Two servers that play one account in turns take the nonce from each other at most this often before one gives way.
const mostAttempts = 50
// Between attempts to reach a database that is away: short, because a failover is short.
const reconnectPauseMs = 50
// Another server holds every account of the batch: one fsync of its commit.
const busyPauseMs = 10

/**
 * Settles spins. Each spin ends in exactly one of: a committed round; a refusal that changed nothing; or "unknown", to
 * be asked again with the same key. Nothing is refused or drawn again once its outcome is stored or shown.
 */
export class Spins {
  readonly #o: SpinsOptions
  readonly #batcher: Batcher<SpinJob>
  readonly #patienceMs: number
  #answers: Array<() => void> = []
  /** Spins in flight by account and key: a parallel duplicate waits for the first. */
  readonly #inFlight = new Map<string, { request: number; result: Promise<SpinResult> }>()

  constructor(options: SpinsOptions) {
    this.#o = options
    this.#patienceMs = options.patienceMs ?? 8000
    this.#batcher = new Batcher({
      run: async jobs => this.#withAnswers(await this.#settle(jobs)),
      maxBatch: options.maxBatch ?? 512,
      maxQueue: options.maxQueue ?? 4096,
    })
  }

  get queued(): number {
    return this.#batcher.queued
  }

  /**
   * @throws LEDGER_BUSY, LEDGER_CLOSING, DATABASE_UNAVAILABLE, DATABASE_OUTCOME_UNKNOWN (all 503, safe to repeat with
   * the same key), IDEMPOTENCY_KEY_REUSED (422)
   */
  async spin(request: {
    accountId: bigint
    key: IdempotencyKey
    stakePerLine: number
    lines: number
  }): Promise<SpinResult> {
    // Not started yet is told before anything is drawn.
    this.#o.gameVersion()
    const { seats } = this.#o
    const seat = seats.peek(request.accountId) ?? seats.keep(await seats.get(request.accountId))
    const id = `${request.accountId}:${request.key.toString('latin1')}`
    const payload = spinRequest(request)
    const first = this.#inFlight.get(id)
    if (first) return this.#join(first, payload)
    const result = this.#submit(seat, request)
    this.#inFlight.set(id, { request: payload, result })
    try {
      return await result
    } finally {
      this.#inFlight.delete(id)
    }
  }

  /** Takes no new spin and answers those it has. */
  async close(): Promise<void> {
    await this.#batcher.close()
  }

  async #join(first: { request: number; result: Promise<SpinResult> }, request: number): Promise<SpinResult> {
    if (first.request !== request) throw ledgerError('IDEMPOTENCY_KEY_REUSED')
    const result = await first.result
    return result.kind === 'settled' ? { ...result, replayed: true } : result
  }

  #submit(
    seat: Seat,
    request: { key: IdempotencyKey; stakePerLine: number; lines: number },
  ): Promise<SpinResult> {
    const { promise, resolve, reject } = Promise.withResolvers<SpinResult>()
    const job: SpinJob = {
      seat,
      key: request.key,
      stakePerLine: request.stakePerLine,
      lines: request.lines,
      stake: BigInt(request.stakePerLine * request.lines),
      submittedAtMs: this.#o.clock.monotonicMs(),
      seedPairId: seat.seedPairId,
      serverSeedHash: seat.serverSeedHash,
      clientSeed: seat.clientSeed,
      nonce: 0,
      stops: 0,
      payout: 0n,
      attempts: 0,
      outcomeUnknown: false,
      answered: false,
      resolve,
      reject,
    }
    drawAt(job, seat.nonce + seat.pending)
    this.#batcher.submit(job)
    seat.pending++
    return promise
  }

  #withAnswers(again: SpinJob[]): Settled<SpinJob> {
    const answers = this.#answers
    this.#answers = []
    return {
      again,
      answer: () => {
        for (const answer of answers) answer()
      },
    }
  }

  /** One run of the batcher. Answers what can be answered; gives back what must go again. */
  async #settle(jobs: SpinJob[]): Promise<SpinJob[]> {
    try {
      return await this.#settleOnce(this.#stillPatient(jobs))
    } catch (error) {
      return await this.#afterFailure(jobs, error)
    }
  }

  async #settleOnce(jobs: SpinJob[]): Promise<SpinJob[]> {
    const unknown = jobs.filter(job => job.outcomeUnknown)
    if (unknown.length > 0) return this.#resolveUnknown(jobs, unknown)
    if (jobs.length === 0) return []
    const { groups, held } = planGroups(jobs)
    const startedAtMs = this.#o.clock.monotonicMs()
    const outcomes = await this.#send(groups)
    this.#o.metrics.batch(jobs.length - held.length, this.#o.clock.monotonicMs() - startedAtMs)
    const again: SpinJob[] = []
    const replays: SpinJob[] = []
    const moved: Seat[] = []
    groups.forEach((group, index) => {
      this.#applyOutcome(group, outcomes[index] as GroupOutcome, { again, replays, moved })
    })
    if (replays.length > 0) again.unshift(...this.#countAttempt(await this.#answerStored(replays)))
    if (outcomes.every(outcome => outcome.kind === 'busy')) await pause(busyPauseMs)
    return this.#withSeats(moved, again.length === 0 ? held : [...again, ...held])
  }

  async #send(groups: SpinJob[][]): Promise<GroupOutcome[]> {
    const { channel } = this.#o
    const gameVersion = this.#o.gameVersion()
    const send = (query: Parameters<Channel['query']>[0]) => channel.query(query)
    const [first] = groups
    try {
      if (groups.length === 1 && first?.length === 1) {
        return [await settleOne(send, first[0] as SpinJob, gameVersion)]
      }
      return await settleMany(send, groups, gameVersion)
    } catch (error) {
      if (isUnknown(error)) for (const job of groups.flat()) job.outcomeUnknown = true
      throw error
    }
  }

  #applyOutcome(
    group: SpinJob[],
    outcome: GroupOutcome,
    to: { again: SpinJob[]; replays: SpinJob[]; moved: Seat[] },
  ): void {
    const seat = (group[0] as SpinJob).seat
    if (outcome.kind === 'busy') {
      // Not an attempt: nothing was decided. Patience is what bounds it.
      to.again.push(...group)
      return
    }
    if (outcome.kind === 'unknown_account') {
      for (const job of group)
        this.#fail(job, gameError('GAME_ACCOUNT_UNKNOWN', { accountId: seat.accountId }))
      return
    }
    if (outcome.kind === 'settled') {
      let balance = outcome.balanceBefore
      group.forEach((job, index) => {
        balance += job.payout - job.stake
        this.#answerSettled(job, spinRecord(job, outcome.roundIds[index] as bigint, balance), false)
      })
      seat.nonce += group.length
      seat.balance = balance
      return
    }
    if (outcome.seedPairId === seat.seedPairId) {
      seat.nonce = outcome.nonce
      seat.balance = outcome.balance
    } else {
      to.moved.push(seat)
    }
    to.replays.push(...outcome.replays)
    const rest = group.filter(job => !outcome.replays.includes(job))
    to.again.push(...this.#refuseShort(rest, outcome.balance))
  }

  // In order, and only up to the first spin that the balance covers: what comes after it depends on its outcome.
  #refuseShort(jobs: SpinJob[], balance: bigint): SpinJob[] {
    const firstCovered = jobs.findIndex(job => job.stake <= balance)
    const refused = firstCovered === -1 ? jobs : jobs.slice(0, firstCovered)
    for (const job of refused)
      this.#answer(job, () => job.resolve({ kind: 'short', balance, stake: job.stake }), 'short')
    return this.#countAttempt(jobs.slice(refused.length))
  }

  #countAttempt(jobs: SpinJob[]): SpinJob[] {
    return jobs.filter(job => {
      if (++job.attempts <= mostAttempts) return true
      this.#fail(job, ledgerError('LEDGER_BUSY', { retryAfterSeconds: 1 }))
      return false
    })
  }

  /** Answers jobs whose key has a stored outcome; gives back the others. */
  async #answerStored(jobs: SpinJob[]): Promise<SpinJob[]> {
    const stored = await readStoredSpins(query => this.#o.channel.query(query), jobs)
    return jobs.filter(job => {
      const spin = stored.get(job)
      if (!spin) return true
      this.#answerFromStore(job, spin)
      return false
    })
  }

  #answerFromStore(job: SpinJob, spin: StoredSpin): void {
    if (spin.requestHash !== BigInt(spinRequest(job))) this.#fail(job, ledgerError('IDEMPOTENCY_KEY_REUSED'))
    else this.#answerSettled(job, spin.record, !(job.outcomeUnknown && isAsDrawn(job, spin.record)))
  }

  // The channel lets no statement through before the old backend is gone: what is not stored now never will be.
  async #resolveUnknown(jobs: SpinJob[], unknown: SpinJob[]): Promise<SpinJob[]> {
    const open = await this.#answerStored(unknown)
    for (const job of open) job.outcomeUnknown = false
    const left = jobs.filter(job => !job.answered)
    return this.#withSeats(new Set(unknown.map(job => job.seat)), left)
  }

  /** Reads seats again. Spins of one that cannot be read fail; gives back the others. */
  async #withSeats(seats: Iterable<Seat>, jobs: SpinJob[]): Promise<SpinJob[]> {
    const unreadable = new Map<Seat, unknown>()
    for (const seat of seats) {
      try {
        await this.#o.seats.refresh(seat)
      } catch (error) {
        if (isUnavailable(error)) throw error
        this.#o.log.error({ err: error, accountId: seat.accountId }, 'a seat could not be read')
        unreadable.set(seat, error)
      }
    }
    if (unreadable.size === 0) return jobs
    for (const job of jobs) if (unreadable.has(job.seat)) this.#fail(job, unreadable.get(job.seat))
    return jobs.filter(job => !job.answered)
  }

  async #afterFailure(jobs: SpinJob[], error: unknown): Promise<SpinJob[]> {
    const open = jobs.filter(job => !job.answered)
    if (isUnknown(error) || isUnavailable(error)) {
      this.#o.log.warn({ err: error, spins: open.length }, 'settlement was interrupted')
      await pause(reconnectPauseMs)
      return this.#stillPatient(open)
    }
    if (isPassing(error)) return this.#countAttempt(open)
    if (isPoison(error) && open.length > 1) return this.#settleHalves(open)
    this.#o.log.error({ err: error, spins: open.length }, 'spins could not be settled')
    const reason = isDistress(error) ? databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 5 }) : error
    // Of these, an earlier statement may stand: whatever keeps us from looking, they are told only that.
    const unknown = databaseError('DATABASE_OUTCOME_UNKNOWN', { retryAfterSeconds: 5 }, { cause: error })
    for (const job of open) this.#fail(job, job.outcomeUnknown ? unknown : reason)
    return []
  }

  // The statement rolled back as a whole; halves find the spin that the database refuses, and spare its neighbours.
  async #settleHalves(jobs: SpinJob[]): Promise<SpinJob[]> {
    const middle = Math.ceil(jobs.length / 2)
    const again = await this.#settle(jobs.slice(0, middle))
    return [...again, ...(await this.#settle(jobs.slice(middle)))]
  }

  #stillPatient(jobs: SpinJob[]): SpinJob[] {
    const now = this.#o.clock.monotonicMs()
    return jobs.filter(job => {
      if (now - job.submittedAtMs <= this.#patienceMs) return true
      const code = job.outcomeUnknown ? 'DATABASE_OUTCOME_UNKNOWN' : 'DATABASE_UNAVAILABLE'
      this.#fail(job, databaseError(code, { retryAfterSeconds: 2 }))
      return false
    })
  }

  #answerSettled(job: SpinJob, record: SpinRecord, replayed: boolean): void {
    const answer = () => job.resolve({ kind: 'settled', body: renderSpin(record), replayed })
    this.#answer(job, answer, replayed ? 'replayed' : 'settled')
  }

  #fail(job: SpinJob, error: unknown): void {
    this.#answer(job, () => job.reject(error), 'failed')
  }

  // The seat is right at once; the caller hears of it when the next statement is on its way.
  #answer(job: SpinJob, answer: () => void, outcome: SpinOutcome): void {
    job.answered = true
    job.seat.pending--
    this.#o.metrics.spin(outcome)
    this.#answers.push(answer)
  }
}

// A spin whose own commit was in doubt gets its first answer from the store. A repeat may be in doubt too, but what is
// stored for it was drawn at an earlier nonce.
function isAsDrawn(job: SpinJob, { serverSeedHash, nonce }: SpinRecord): boolean {
  return serverSeedHash === job.serverSeedHash && Number(nonce) === job.nonce
}

function isUnknown(error: unknown): boolean {
  return error instanceof Failure && error.code === 'DATABASE_OUTCOME_UNKNOWN'
}

function isUnavailable(error: unknown): boolean {
  return (error instanceof Failure && error.code === 'DATABASE_UNAVAILABLE') || isReadOnly(error)
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
