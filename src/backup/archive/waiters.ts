import { formatLsn, type Lsn } from '#lib/lsn.ts'
import { archiveError } from './errors.ts'

interface Waiter {
  lsn: Lsn
  reached(): void
}

/** A position that only goes forward, and who waits for it. */
export class Mark {
  readonly #done: string
  #lsn: Lsn | undefined
  #waiters = new Set<Waiter>()

  /** `done` as in: WAL up to 0/5000000 was not `stored`. */
  constructor(done: string) {
    this.#done = done
  }

  get lsn(): Lsn | undefined {
    return this.#lsn
  }

  advance(lsn: Lsn): void {
    if (this.#lsn !== undefined && lsn <= this.#lsn) return
    this.#lsn = lsn
    for (const waiter of this.#waiters) if (waiter.lsn <= lsn) waiter.reached()
  }

  /** Not beyond `lsn`: what was there of another timeline says nothing about this one. */
  limit(lsn: Lsn): void {
    if (this.#lsn !== undefined && this.#lsn > lsn) this.#lsn = lsn
  }

  /** Resolves when the mark is at `lsn` or beyond. @throws ARCHIVE_TIMEOUT, with what `reason` says then */
  until(lsn: Lsn, o: { withinMs: number; reason(): string }): Promise<void> {
    if (this.#lsn !== undefined && this.#lsn >= lsn) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiters.delete(waiter)
        reject(this.#late(lsn, o))
      }, o.withinMs)
      const waiter: Waiter = {
        lsn,
        reached: () => {
          clearTimeout(late)
          this.#waiters.delete(waiter)
          resolve()
        },
      }
      this.#waiters.add(waiter)
    })
  }

  #late(lsn: Lsn, o: { withinMs: number; reason(): string }) {
    return archiveError('ARCHIVE_TIMEOUT', {
      lsn: formatLsn(lsn),
      done: this.#done,
      withinMs: o.withinMs,
      reached: this.#lsn === undefined ? 'nothing yet' : formatLsn(this.#lsn),
      reason: o.reason(),
    })
  }
}
