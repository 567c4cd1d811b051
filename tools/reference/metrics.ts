import { auditMetrics } from '#audit/metrics.ts'
import { archiveMetrics } from '#backup/archive/metrics.ts'
import { backupMetrics } from '#backup/metrics.ts'
import { gameMetrics } from '#game/metrics.ts'
import { createHttpMetrics } from '#http/metrics.ts'
import { identityMetrics } from '#identity/metrics.ts'
import { addProcessMetrics, createMetrics, type Metrics } from '#lib/metrics.ts'
import { code, page, table } from './text.ts'

interface Noted {
  name: string
  kind: 'counter' | 'gauge' | 'histogram'
  help: string
  labels?: readonly string[]
  buckets?: readonly number[]
}

/** Every metric, by name. */
export function metricsPage(): string {
  const noted: Noted[] = []
  defineAll(noting(noted))
  const rows = noted
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, kind, help, labels = [], buckets }) => [
      code(name),
      kind,
      labels.map(code).join(', '),
      buckets ? `${help} Buckets: ${buckets.join(', ')}.` : help,
    ])
  const intro = `\`GET /metrics\` answers Prometheus text. It needs an operator token of role metrics or above, or, on the simulated chain
outside production, a caller on this very machine (see docs/architecture.md, "Doors"). Values are in base units;
no label ever holds a player, an address or another unbounded value.`
  return page('Metrics', intro, [table(['Metric', 'Kind', 'Labels', 'What'], rows)])
}

const noCanary = { sequence: null, writtenAt: null, lsn: null, lastError: null }

/** Everything that a process of ours may define. */
function defineAll(metrics: Metrics): void {
  addProcessMetrics(metrics)
  createHttpMetrics(metrics)
  gameMetrics(metrics).watchQueue(() => 0)
  identityMetrics(metrics).watchCache({ entries: () => 0, isUsable: () => true })
  auditMetrics(metrics).watchBacklog(() => 0)
  archiveMetrics(metrics).watch({ lagBytes: () => 0, storedLagBytes: () => 0, spoolBytes: () => 0 })
  backupMetrics(metrics).watch(
    () => ({ lastBackup: null, lastVerified: null, lastDrill: null, canary: noCanary }),
    () => new Date(0),
  )
}

/** A registry that also notes what is defined in it, so that each definition is checked as at a start. */
function noting(noted: Noted[]): Metrics {
  const metrics = createMetrics()
  return {
    ...metrics,
    counter: options => {
      noted.push({ ...options, kind: 'counter' })
      return metrics.counter(options)
    },
    gauge: options => {
      noted.push({ ...options, kind: 'gauge' })
      return metrics.gauge(options)
    },
    histogram: options => {
      noted.push({ ...options, kind: 'histogram' })
      return metrics.histogram(options)
    },
  }
}
