import type { Metrics } from '#lib/metrics.ts'

export type SpinOutcome = 'settled' | 'replayed' | 'short' | 'failed'

export type GameMetrics = ReturnType<typeof gameMetrics>

/** Bound once; a spin costs a few counter increments. */
export function gameMetrics(metrics: Metrics) {
  const spins = metrics.counter({
    name: 'moonyetis_spins_total',
    help: 'Spins by how they ended: settled, replayed, short (balance too small), failed (503 or worse).',
    labels: ['outcome'],
  })
  const byOutcome = {
    settled: spins.labels({ outcome: 'settled' }),
    replayed: spins.labels({ outcome: 'replayed' }),
    short: spins.labels({ outcome: 'short' }),
    failed: spins.labels({ outcome: 'failed' }),
  }
  const size = metrics.histogram({
    name: 'moonyetis_settlement_batch_spins',
    help: 'Spins settled by one statement and one commit.',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
  })
  const duration = metrics.histogram({
    name: 'moonyetis_settlement_duration_seconds',
    help: 'From sending a settlement statement to its durable commit.',
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5],
  })
  return {
    spin: (outcome: SpinOutcome) => byOutcome[outcome].inc(),
    batch(spins: number, durationMs: number): void {
      size.observe(spins)
      duration.observe(durationMs / 1000)
    },
    watchQueue(queued: () => number): void {
      metrics.gauge({
        name: 'moonyetis_settlement_queue_spins',
        help: 'Spins that wait for the settlement in flight.',
        collect: queued,
      })
    },
  }
}
