/** Wall time for what people read and monotonic time for deadlines; policies receive one and never import it. */
export interface Clock {
  /** Wall time. May jump when the machine is corrected. */
  now(): Date
  /** Milliseconds as a float since an arbitrary origin. Never goes back. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
}

export type ManualClock = Clock & { advance(ms: number): void }

/** A clock for tests: stands still until `advance` moves wall and monotonic time together. */
export function manualClock(startIso = '2026-01-01T00:00:00.000Z'): ManualClock {
  const start = Date.parse(startIso)
  if (Number.isNaN(start)) throw new TypeError(`manualClock: ${startIso} is not an RFC 3339 time`)
  let elapsedMs = 0
  return {
    now: () => new Date(start + elapsedMs),
    monotonicMs: () => elapsedMs,
    advance: ms => {
      if (!(ms >= 0)) throw new RangeError(`manualClock: time does not go back (${ms} ms)`)
      elapsedMs += ms
    },
  }
}
