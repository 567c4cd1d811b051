import Type from 'typebox'
import type { Log } from '#lib/log.ts'
import type { DrainState } from './drain.ts'
import { type ReadyReport, type RoutePlugin, sendJson } from './types.ts'

export interface ProbeOptions {
  ready: () => Promise<ReadyReport> | ReadyReport
  drain: DrainState
  log: Log
}

const probeSchema = Type.Object({
  status: Type.Union([Type.Literal('ok'), Type.Literal('unavailable')]),
  reasons: Type.Array(Type.String(), { description: 'Why not, for operators.' }),
})
const response = { 200: probeSchema, 503: probeSchema }
const aliveJson = JSON.stringify({ status: 'ok', reasons: [] })

// Orchestrators give a probe about one second; a readiness check that hangs must not hang them.
const readyWithinMs = 2_000

export const probeRoutes: RoutePlugin<ProbeOptions> = async (app, options) => {
  const ask = askOnce(options)
  let hasStarted = false

  // Liveness asks nothing and nobody: a database that is away is no reason to kill this process.
  app.get(
    '/livez',
    { schema: { summary: 'Is the process alive', tags: ['probes'], response: { 200: probeSchema } } },
    (_request, reply) => sendJson(reply, aliveJson),
  )

  app.get(
    '/readyz',
    { schema: { summary: 'Can it serve now', tags: ['probes'], response } },
    async (_request, reply) => {
      const report = await ask()
      hasStarted ||= report.ready
      return sendReport(reply, report)
    },
  )

  app.get(
    '/startupz',
    { schema: { summary: 'Has it started', tags: ['probes'], response } },
    async (_request, reply) => {
      const report = hasStarted ? { ready: true, reasons: [] } : await ask()
      hasStarted ||= report.ready
      return sendReport(reply, report)
    },
  )
}

function sendReport(
  reply: Parameters<typeof sendJson>[0] & { code(status: number): unknown },
  report: ReadyReport,
) {
  reply.code(report.ready ? 200 : 503)
  return sendJson(
    reply,
    JSON.stringify({ status: report.ready ? 'ok' : 'unavailable', reasons: report.reasons }),
  )
}

/** Probes stand outside all limits, so however many ask at once, the check itself runs once. */
function askOnce({ ready, drain, log }: ProbeOptions): () => Promise<ReadyReport> {
  let asking: Promise<ReadyReport> | undefined
  return async () => {
    if (drain.draining) return { ready: false, reasons: ['shutting down'] }
    asking ??= askWithin(ready, log).finally(() => {
      asking = undefined
    })
    return asking
  }
}

async function askWithin(ready: ProbeOptions['ready'], log: Log): Promise<ReadyReport> {
  const late = Promise.withResolvers<ReadyReport>()
  const timer = setTimeout(late.resolve, readyWithinMs, {
    ready: false,
    reasons: [`the readiness check took longer than ${readyWithinMs} ms`],
  })
  try {
    return await Promise.race([Promise.try(ready), late.promise])
  } catch (error) {
    log.error({ err: error }, 'readiness check failed')
    return { ready: false, reasons: ['the readiness check failed'] }
  } finally {
    clearTimeout(timer)
  }
}
