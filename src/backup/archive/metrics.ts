import type { Metrics } from '#lib/metrics.ts'

export type ArchiveMetrics = ReturnType<typeof archiveMetrics>

/** What is only asked for when somebody scrapes. */
export interface ArchiveGauges {
  lagBytes(): number
  storedLagBytes(): number
  spoolBytes(): number
}

export function archiveMetrics(metrics: Metrics) {
  const counter = (name: string, help: string) =>
    metrics.counter({ name: `moonyetis_archive_${name}_total`, help })
  return {
    receivedBytes: counter('received_bytes', 'Bytes of WAL that came from PostgreSQL.'),
    flushSeconds: metrics.histogram({
      name: 'moonyetis_archive_flush_seconds',
      help: 'Time until received WAL was on the disk of the spool; commits wait for it when backup.walMode is sync.',
      buckets: [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1, 5],
    }),
    segmentsStored: counter('segments_stored', 'Whole WAL segments put into the repository.'),
    tailsStored: counter('tails_stored', 'Pieces of open WAL segments put into the repository.'),
    reconnects: counter('reconnects', 'Streams from PostgreSQL that ended and were begun again.'),
    gaps: counter('gaps', 'Gaps: WAL that PostgreSQL dropped before it was archived.'),
    conflicts: counter('conflicts', 'Times the archive stopped because two histories have one name.'),
    failures: counter('failures', 'Attempts to receive or to store WAL that failed; they are repeated.'),
    watch: (gauges: ArchiveGauges): void => {
      metrics.gauge({
        name: 'moonyetis_archive_lag_bytes',
        help: 'WAL that PostgreSQL has and the spool has not on disk.',
        collect: gauges.lagBytes,
      })
      metrics.gauge({
        name: 'moonyetis_archive_stored_lag_bytes',
        help: 'WAL that PostgreSQL has and the repository has not.',
        collect: gauges.storedLagBytes,
      })
      metrics.gauge({
        name: 'moonyetis_archive_spool_bytes',
        help: 'Size of the segments in the spool.',
        collect: gauges.spoolBytes,
      })
    },
  }
}
