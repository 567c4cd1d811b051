import type { CounterChild, HistogramChild, Metrics } from '#lib/metrics.ts'

export interface HttpMetrics {
  /** Counts one answer of a route. Bound to the route once, so each request costs two additions and a bucket search. */
  forRoute(route: string, method: string): RouteMetrics
  clientErrors(code: string): void
}

export interface RouteMetrics {
  count(status: number, startedMs: number): void
}

// From a cached read to the longest wait for a commit while the database fails over.
const bucketsSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export function createHttpMetrics(metrics: Metrics): HttpMetrics {
  const requests = metrics.counter({
    name: 'moonyetis_http_requests_total',
    help: 'Requests answered, by route pattern, method and status class.',
    labels: ['route', 'method', 'status'],
  })
  const durations = metrics.histogram({
    name: 'moonyetis_http_request_duration_seconds',
    help: 'Time from the parsed request line to the answer handed to the socket.',
    labels: ['route', 'method'],
    buckets: bucketsSeconds,
  })
  const clientErrors = metrics.counter({
    name: 'moonyetis_http_client_errors_total',
    help: 'Connections that sent no readable HTTP request, by problem code.',
    labels: ['code'],
  })
  return {
    forRoute: (route, method) => {
      const duration = durations.labels({ route, method })
      return routeMetrics(duration, status => requests.labels({ route, method, status }))
    },
    clientErrors: code => clientErrors.labels({ code }).inc(),
  }
}

function routeMetrics(duration: HistogramChild, counter: (status: string) => CounterChild): RouteMetrics {
  const byClass: (CounterChild | undefined)[] = []
  return {
    count: (status, startedMs) => {
      const statusClass = Math.floor(status / 100)
      let child = byClass[statusClass]
      if (child === undefined) {
        child = counter(`${statusClass}xx`)
        byClass[statusClass] = child
      }
      child.inc()
      duration.observe((performance.now() - startedMs) / 1000)
    },
  }
}
