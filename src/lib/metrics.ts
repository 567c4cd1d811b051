import {
  Counter as ClientCounter,
  Gauge as ClientGauge,
  Histogram as ClientHistogram,
  Registry,
} from '@prometheus-io/client'

export type Labels = Record<string, string>

export interface CounterChild {
  inc(n?: number): void
}
export interface GaugeChild {
  set(value: number): void
  inc(n?: number): void
  dec(n?: number): void
}
export interface HistogramChild {
  /** Seconds, or the base unit the metric's name ends in. */
  observe(value: number): void
}

export interface Counter extends CounterChild {
  labels(labels: Labels): CounterChild
}
export interface Gauge extends GaugeChild {
  labels(labels: Labels): GaugeChild
}
export interface Histogram extends HistogramChild {
  labels(labels: Labels): HistogramChild
}

export interface MetricOptions {
  /** Starts with `moonyetis_`, ends in its base unit; counters end in `_total`. */
  name: string
  help: string
  labels?: readonly string[]
}

export interface Metrics {
  /** With `collect`, the total is asked for at each scrape instead of being counted by inc(). */
  counter(options: MetricOptions & { collect?(): number }): Counter
  /** `collect` is asked at each scrape; when it throws, the sample is NaN and the scrape still answers. */
  gauge(options: MetricOptions & { collect?(): number }): Gauge
  histogram(options: MetricOptions & { buckets: readonly number[] }): Histogram
  /** Prometheus text exposition format 0.0.4. */
  render(): Promise<string>
  contentType: string
}

// Label values are bounded by design; this catches the mistake before it eats the memory of the scraper.
const seriesLimit = 2_000
const labelLengthLimit = 120
const overflowValue = 'other'

/** A registry of its own; names outside the `moonyetis_` prefix are a programming error. */
export function createMetrics(): Metrics {
  const registry = new Registry()
  return {
    counter: options => {
      if (!options.name.endsWith('_total')) throw new TypeError(`counter ${options.name} must end in _total`)
      const { collect } = options
      const children: BufferedCounter[] = []
      let total = 0
      const raiseTo = (asked: number) => {
        if (!(asked > total)) return
        counter.inc(asked - total)
        total = asked
      }
      const counter = new ClientCounter({
        ...clientOptions(options),
        registers: [registry],
        collect() {
          if (collect) raiseTo(quietly(collect))
          for (const child of children) child.flush()
        },
      })
      const make = (labels: Labels) => {
        const child = new BufferedCounter(n => counter.inc(labels, n))
        children.push(child)
        return child
      }
      const unlabelled = options.labels?.length ? undefined : make({})
      return {
        labels: boundChildren(options, make),
        inc: n => (unlabelled ?? failUnlabelled(options)).inc(n),
      }
    },
    gauge: options => {
      const { collect } = options
      const collected = collect && {
        collect(this: ClientGauge) {
          this.set(quietly(collect))
        },
      }
      const gauge = new ClientGauge({ ...clientOptions(options), registers: [registry], ...collected })
      const children = boundChildren(options, labels => gauge.labels(labels))
      return {
        labels: children,
        set: v => gauge.set(v),
        inc: n => gauge.inc(n ?? 1),
        dec: n => gauge.dec(n ?? 1),
      }
    },
    histogram: options => {
      const buckets = [...options.buckets]
      const histogram = new ClientHistogram({ ...clientOptions(options), buckets, registers: [registry] })
      const children = boundChildren(options, labels => histogram.labels(labels))
      return { labels: children, observe: v => histogram.observe(v) }
    },
    render: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

/** Memory, CPU, start time and event loop use of this process; read only when scraped. */
export function addProcessMetrics(metrics: Metrics): void {
  const startedSeconds = (Date.now() - process.uptime() * 1000) / 1000
  let usedBefore = performance.eventLoopUtilization()
  metrics.gauge({
    name: 'moonyetis_process_resident_memory_bytes',
    help: 'Resident memory of this process.',
    collect: () => process.memoryUsage.rss(),
  })
  metrics.counter({
    name: 'moonyetis_process_cpu_seconds_total',
    help: 'User and system CPU time spent by this process since its start.',
    collect: () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
  })
  metrics.gauge({
    name: 'moonyetis_process_start_time_seconds',
    help: 'Unix time at which this process started.',
    collect: () => startedSeconds,
  })
  metrics.gauge({
    name: 'moonyetis_process_event_loop_utilization_ratio',
    help: 'Share of time the event loop was busy since the last scrape, 0 to 1.',
    collect: () => {
      const now = performance.eventLoopUtilization()
      const { utilization } = performance.eventLoopUtilization(now, usedBefore)
      usedBefore = now
      return utilization
    },
  })
}

/** Adds up in a field and hands over at each scrape: a hot path pays one addition instead of a look-up by label text. */
class BufferedCounter implements CounterChild {
  #pending = 0
  readonly #handOver: (n: number) => void

  constructor(handOver: (n: number) => void) {
    this.#handOver = handOver
    // The series exists from the start, so that a rate over its first increase is not lost.
    handOver(0)
  }

  inc(n = 1): void {
    if (!(n >= 0)) throw new RangeError(`a counter does not go back (${n})`)
    this.#pending += n
  }

  flush(): void {
    if (this.#pending === 0) return
    this.#handOver(this.#pending)
    this.#pending = 0
  }
}

function failUnlabelled(options: MetricOptions): never {
  throw new TypeError(`metric ${options.name} needs its labels ${options.labels?.join(', ')}`)
}

function clientOptions(options: MetricOptions) {
  if (!/^moonyetis_[a-z0-9_]+$/.test(options.name)) {
    throw new TypeError(`metric ${options.name} must be moonyetis_ and lower snake case`)
  }
  return { name: options.name, help: options.help, labelNames: [...(options.labels ?? [])] }
}

/** Children are kept, so `labels()` on a hot path costs one map look-up; past the limit all share one overflow child. */
function boundChildren<Child>(
  options: MetricOptions,
  make: (labels: Labels) => Child,
): (labels: Labels) => Child {
  const names = options.labels ?? []
  const children = new Map<string, Child>()
  return labels => {
    const values = names.map(name => (labels[name] ?? '').slice(0, labelLengthLimit))
    const key = values.join('\u0000')
    const known = children.get(key)
    if (known !== undefined) return known
    if (Object.keys(labels).some(name => !names.includes(name))) {
      throw new TypeError(
        `metric ${options.name} has labels ${names.join(', ')}, not ${Object.keys(labels).join(', ')}`,
      )
    }
    if (children.size >= seriesLimit) return overflowChild(names, children, make)
    const child = make(Object.fromEntries(names.map((name, i) => [name, values[i] as string])))
    children.set(key, child)
    return child
  }
}

function overflowChild<Child>(
  names: readonly string[],
  children: Map<string, Child>,
  make: (labels: Labels) => Child,
): Child {
  const key = names.map(() => overflowValue).join('\u0000')
  const child = children.get(key) ?? make(Object.fromEntries(names.map(name => [name, overflowValue])))
  children.set(key, child)
  return child
}

function quietly(collect: () => number): number {
  try {
    return collect()
  } catch {
    return Number.NaN
  }
}
