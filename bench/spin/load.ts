/** One window of one design at one concurrency. */
export interface Window {
  perSecond: number
  p50Ms: number
  p99Ms: number
  /** All that were done, those outside the counted time too: what costs are divided by. */
  operations: number
}

const warmMs = 1000

/**
 * A closed loop: each of `clients` callers sends its next spin when it has the answer of the last. The first second is
 * warm-up and not counted.
 */
export async function closedLoop(o: {
  clients: number
  seconds: number
  spin: (client: number) => Promise<void>
}): Promise<Window> {
  const startMs = performance.now() + warmMs
  const endMs = startMs + o.seconds * 1000
  const latencies: number[] = []
  let operations = 0
  const client = async (index: number) => {
    for (;;) {
      const sentMs = performance.now()
      if (sentMs >= endMs) return
      await o.spin(index)
      const doneMs = performance.now()
      operations++
      if (sentMs >= startMs && doneMs <= endMs) latencies.push(doneMs - sentMs)
    }
  }
  await Promise.all(Array.from({ length: o.clients }, (_, index) => client(index)))
  latencies.sort((a, b) => a - b)
  return {
    perSecond: latencies.length / o.seconds,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    operations,
  }
}

/** Of sorted values; nearest rank. */
function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  )
}
