import { fdatasync, fdatasyncSync } from 'node:fs'
import { type Clock, systemClock } from '#lib/clock.ts'

interface DatasyncCalls {
  now(fd: number): void
  later(fd: number): Promise<void>
}

// Handing a call to another thread and back costs more than a fast disk takes for it.
const quickMs = 2
const quickInARow = 50
// A disk that took this long may take longer next time.
const slowMs = 10

/**
 * fdatasync for commits that wait. A disk that has been quick for a while is asked on this thread, which spares each
 * commit the way to another one and back; the first slow answer sends the next ones off the event loop again, so that a
 * disk in trouble stalls the answers to keepalives once at most.
 */
export class Datasync {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #calls: DatasyncCalls
  #quick = 0

  constructor(o: { clock?: Pick<Clock, 'monotonicMs'>; calls?: DatasyncCalls } = {}) {
    this.#clock = o.clock ?? systemClock
    this.#calls = o.calls ?? realCalls
  }

  async sync(fd: number): Promise<void> {
    const beganMs = this.#clock.monotonicMs()
    if (this.#quick >= quickInARow) this.#calls.now(fd)
    else await this.#calls.later(fd)
    const tookMs = this.#clock.monotonicMs() - beganMs
    if (this.#quick >= quickInARow) this.#quick = tookMs < slowMs ? this.#quick : 0
    else this.#quick = tookMs < quickMs ? this.#quick + 1 : 0
  }
}

const realCalls: DatasyncCalls = {
  now: fd => fdatasyncSync(fd),
  later: fd =>
    new Promise<void>((resolve, reject) => fdatasync(fd, error => (error ? reject(error) : resolve()))),
}
