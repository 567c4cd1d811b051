import { ledgerError } from './errors.ts'

export interface Settled<Job> {
  /** Jobs that must go again, in order, ahead of what waits. */
  again: Job[]
  /** Tells callers their answers; called once the next statement is on its way, so that both sides work at once. */
  answer: () => void
}

export interface BatcherOptions<Job> {
  /** Settles jobs. Never rejects. */
  run: (jobs: Job[]) => Promise<Settled<Job>>
  /** Most jobs in one run. */
  maxBatch: number
  /** Most jobs waiting; one more is refused with LEDGER_BUSY. */
  maxQueue: number
}

/**
 * Natural batching: while one run is in flight, arriving jobs queue; the next run takes all of them. There is no timer:
 * a lone job goes at once, and the batch grows by itself exactly when the database is the slower side.
 */
export class Batcher<Job> {
  readonly #o: BatcherOptions<Job>
  #waiting: Job[] = []
  #running = false
  #closing = false
  #whenIdle: Array<() => void> = []

  constructor(options: BatcherOptions<Job>) {
    this.#o = options
  }

  get queued(): number {
    return this.#waiting.length
  }

  /** @throws LEDGER_BUSY (503) when the queue is full, LEDGER_CLOSING (503) after close. */
  submit(job: Job): void {
    if (this.#closing) throw ledgerError('LEDGER_CLOSING', { retryAfterSeconds: 2 })
    if (this.#waiting.length >= this.#o.maxQueue) throw ledgerError('LEDGER_BUSY', { retryAfterSeconds: 1 })
    this.#waiting.push(job)
    if (this.#running) return
    this.#running = true
    // After the event loop has read every socket that is ready: requests that came together go together.
    setImmediate(() => void this.#loop())
  }

  /** Takes no new job; resolves when every job taken has been answered. */
  async close(): Promise<void> {
    this.#closing = true
    if (!this.#running) return
    await new Promise<void>(resolve => this.#whenIdle.push(resolve))
  }

  async #loop(): Promise<void> {
    let most = this.#firstBatch()
    while (this.#waiting.length > 0) {
      const { again, answer } = await this.#o.run(this.#waiting.splice(0, most))
      if (again.length > 0) this.#waiting = [...again, ...this.#waiting]
      // With an empty queue the answers come first: they bring the next jobs.
      if (this.#waiting.length > 0) setImmediate(answer)
      else answer()
      most = this.#o.maxBatch
    }
    this.#running = false
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  // Callers that wait for each other's answers arrive as one crowd, and database and server would work in turns. Half
  // of a crowd sets them out of step: from then on one half is settled while the other is answered.
  #firstBatch(): number {
    const crowd = this.#waiting.length
    return crowd < smallestCrowd ? this.#o.maxBatch : Math.min(this.#o.maxBatch, Math.ceil(crowd / 2))
  }
}

// Below this the fixed cost of a statement outweighs what working at once gains.
const smallestCrowd = 48
