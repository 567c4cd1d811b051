import type { Metrics } from '#lib/metrics.ts'

export type IdentityMetrics = ReturnType<typeof identityMetrics>

/** Bound once; a cached look-up costs one counter increment. */
export function identityMetrics(metrics: Metrics) {
  const lookups = metrics.counter({
    name: 'moonyetis_session_lookups_total',
    help: 'Player sessions looked up, by what answered: cache, database, unknown (no such session), failed (503).',
    labels: ['answer'],
  })
  const signIns = metrics.counter({
    name: 'moonyetis_sign_ins_total',
    help: 'Sign-ins by kind (demo, operator) and outcome (accepted, refused).',
    labels: ['kind', 'outcome'],
  })
  const revocations = metrics.counter({
    name: 'moonyetis_session_revocations_total',
    help: 'Notices of ended player sessions that the database pushed to this server.',
  })
  return {
    cached: lookups.labels({ answer: 'cache' }),
    found: lookups.labels({ answer: 'database' }),
    unknown: lookups.labels({ answer: 'unknown' }),
    failed: lookups.labels({ answer: 'failed' }),
    demoAccepted: signIns.labels({ kind: 'demo', outcome: 'accepted' }),
    demoRefused: signIns.labels({ kind: 'demo', outcome: 'refused' }),
    operatorAccepted: signIns.labels({ kind: 'operator', outcome: 'accepted' }),
    operatorRefused: signIns.labels({ kind: 'operator', outcome: 'refused' }),
    revocations,
    watchCache(cache: { entries(): number; isUsable(): boolean }): void {
      metrics.gauge({
        name: 'moonyetis_session_cache_entries',
        help: 'Verified player sessions in memory.',
        collect: () => cache.entries(),
      })
      metrics.gauge({
        name: 'moonyetis_session_revocations_connected',
        help: '1 while revocations are pushed to this server; at 0 each session is checked in the database.',
        collect: () => (cache.isUsable() ? 1 : 0),
      })
    },
  }
}
