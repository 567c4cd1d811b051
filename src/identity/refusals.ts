import type { Clock } from '#lib/clock.ts'

/** The journal that a role hands in. Durable when `record` returns. */
export interface AuditTrail {
  record(event: {
    actor: string
    action: string
    target: string
    detail: Record<string, string | number>
  }): unknown
}

// Each record is an fsync: guessing must cost the guesser more than the server.
const recordsPerMinute = 10
const windowMs = 60_000

/** Records refused operator sign-ins, at most so many a minute; the next record tells how many were left out. */
export class RefusalRecorder {
  readonly #audit: AuditTrail
  readonly #clock: Clock
  #windowEndsMs = Number.NEGATIVE_INFINITY
  #recorded = 0
  #leftOut = 0

  constructor(audit: AuditTrail, clock: Clock) {
    this.#audit = audit
    this.#clock = clock
  }

  record(target: string, from: string): void {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs >= this.#windowEndsMs) {
      this.#windowEndsMs = nowMs + windowMs
      this.#recorded = 0
    }
    if (this.#recorded >= recordsPerMinute) {
      this.#leftOut++
      return
    }
    this.#recorded++
    const detail = { from, ...(this.#leftOut > 0 ? { leftOut: this.#leftOut } : {}) }
    this.#leftOut = 0
    this.#audit.record({ actor: 'anonymous', action: 'operator.refused', target, detail })
  }
}
