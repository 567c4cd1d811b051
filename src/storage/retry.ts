import { setTimeout as delay } from 'node:timers/promises'

/** How long to try; times in milliseconds. */
export interface Patience {
  /** No byte in either direction for so long ends a request. */
  stallMs: number
  /** For one request without its body. */
  requestMs: number
  /** What a body may take on top. */
  slowestBytesPerSecond: number
  attempts: number
  backoffMs: number
  longestBackoffMs: number
}

export const usualPatience: Patience = {
  // S3 itself closes after 20 s; a store that needs longer to begin an answer is in trouble.
  stallMs: 20_000,
  requestMs: 60_000,
  // A quarter of a domestic uplink; 64 MiB may take eight minutes.
  slowestBytesPerSecond: 131_072,
  // With the waits between them about half a minute, as long as a store's own failover takes.
  attempts: 7,
  backoffMs: 250,
  longestBackoffMs: 10_000,
}

/** Full jitter over a doubling bound, so that many clients do not come back together; `random` is in [0, 1). */
export function backoffFor(
  o: Pick<Patience, 'backoffMs' | 'longestBackoffMs'> & {
    attempt: number
    random: number
    askedSeconds?: number
  },
): number {
  const asked = (o.askedSeconds ?? 0) * 1000
  const bound = Math.min(o.longestBackoffMs, o.backoffMs * 2 ** (o.attempt - 1))
  return Math.min(o.longestBackoffMs, Math.max(asked, bound / 2 + (bound / 2) * o.random))
}

/** For one request, with what it carries or brings. */
export function deadlineFor(patience: Patience, bytes: number): number {
  return patience.requestMs + (bytes / patience.slowestBytesPerSecond) * 1000
}

/** @throws the reason of the signal */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await delay(ms, undefined, signal ? { signal } : {})
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
}
