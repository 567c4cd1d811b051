import type { Metrics } from '#lib/metrics.ts'

export type AuditMetrics = ReturnType<typeof auditMetrics>

export function auditMetrics(metrics: Metrics) {
  const failures = metrics.counter({
    name: 'moonyetis_audit_copy_failures_total',
    help: 'Attempts to copy audit events to the database that failed; they are repeated.',
  })
  const copied = metrics.counter({
    name: 'moonyetis_audit_events_copied_total',
    help: 'Audit events that this server copied to the database.',
  })
  return {
    failures,
    copied,
    watchBacklog: (backlog: () => number): void => {
      metrics.gauge({
        name: 'moonyetis_audit_events_uncopied',
        help: 'Audit events of the local journal that the database does not hold yet.',
        collect: backlog,
      })
    },
  }
}
