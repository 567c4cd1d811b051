import { randomUUID } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import cookie from '@fastify/cookie'
import fastify, { type FastifyReply, type FastifyRequest, LogController, type RouteOptions } from 'fastify'
import Type, { type Static, type TSchema } from 'typebox'
import { commonErrors, commonFailure, type ErrorRow } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Metrics } from '#lib/metrics.ts'
import { createClientErrorHandler, createExpectationHandler } from './client-errors.ts'
import type { httpSlice } from './config.ts'
import { createDrain, type DrainState } from './drain.ts'
import { httpError, rows as httpRows } from './errors.ts'
import { securityHeaders } from './headers.ts'
import { parseJson } from './json.ts'
import { createHttpMetrics, type HttpMetrics } from './metrics.ts'
import { createNotFoundHandler, RouteTable } from './not-found.ts'
import { registerOpenApi } from './openapi.ts'
import { probeRoutes } from './probes.ts'
import { createErrorHandler, sendFailure, toFailure } from './problems.ts'
import { describe } from './schemas.ts'
import type { App, ReadyReport } from './types.ts'
import { closeObjects, validatorCompiler } from './validation.ts'

export type HttpConfig = Static<(typeof httpSlice)['schema']>

export interface HttpOptions {
  config: HttpConfig
  log: Log
  metrics: Metrics
  /** Text of other processes' metrics, under other names, that GET /metrics shows too; it must not throw. */
  moreMetrics?: () => Promise<string>
  /** Asked by /readyz, and by /startupz until it was true once. */
  ready: () => Promise<ReadyReport> | ReadyReport
  version: string
  /** Who may read GET /metrics; nobody when it is not given. Throw a Failure to say why not. */
  mayReadMetrics?: (request: FastifyRequest) => boolean | Promise<boolean>
  /** Rows of all pillars, for the table of problem codes in /docs. */
  errorRows?: Record<string, ErrorRow>
}

export interface Http {
  /** Register routes here before listen(). */
  app: App
  /** Throws HTTP_PORT_IN_USE or HTTP_CANNOT_LISTEN. */
  listen(): Promise<{ port: number }>
  /** Readiness off, no new connections, requests in flight finish; what is left at the deadline is cut off. */
  drain(deadlineMs: number): Promise<void>
}

declare module 'fastify' {
  interface FastifyRequest {
    /** performance.now() when the request was routed. */
    startedMs: number
  }
}

/** Fastify with our problems, limits, headers, probes, metrics and documentation; it knows no pillar. */
export async function createHttp(options: HttpOptions): Promise<Http> {
  const { config, log, metrics } = options
  const headers = securityHeaders(config)
  const httpMetrics = createHttpMetrics(metrics)
  const state: DrainState = { draining: false }
  const routes = new RouteTable()
  const app = createApp(config, log, headers, httpMetrics)
  app.server.maxConnections = config.maxConnections
  app.server.on('checkExpectation', createExpectationHandler(headers))

  app.setValidatorCompiler<TSchema>(validatorCompiler)
  // A response schema documents. It must not turn a good answer into a 500, and JSON.stringify is as fast.
  app.setSerializerCompiler(() => JSON.stringify)
  takeJsonOnly(app)
  app.setErrorHandler(createErrorHandler(log))
  addRequestHooks(app, headers)
  addRouteHooks(app, { routes, httpMetrics, state, log })
  addNotFound(app, { routes, httpMetrics, state })

  await app.register(cookie)
  const errorRows = { ...commonErrors.rows, ...httpRows, ...options.errorRows }
  await registerOpenApi(app, { version: options.version, errorRows, publicUrl: config.publicUrl })
  await app.register(probeRoutes, { ready: options.ready, drain: state, log })
  const render = async () => `${await metrics.render()}${(await options.moreMetrics?.()) ?? ''}`
  addMetricsRoute(app, { render, contentType: metrics.contentType }, options.mayReadMetrics ?? (() => false))
  return { app, listen: () => listen(app, config), drain: createDrain(app, state, log) }
}

function createApp(
  config: HttpConfig,
  log: Log,
  headers: Record<string, string>,
  httpMetrics: HttpMetrics,
): App {
  const headersTimeout = Math.min(config.headersTimeoutMs, config.requestTimeoutMs)
  try {
    const app = fastify({
      http: {
        headersTimeout,
        // Node looks for late requests this often, so a timeout is honoured within a quarter of itself.
        connectionsCheckingInterval: Math.max(50, Math.min(5_000, headersTimeout / 4)),
        // Node would answer a missing Host with an empty 400; the hook below gives the reason.
        requireHostHeader: false,
      },
      requestTimeout: config.requestTimeoutMs,
      connectionTimeout: config.connectionTimeoutMs,
      keepAliveTimeout: config.keepAliveTimeoutMs,
      bodyLimit: config.bodyLimitBytes,
      trustProxy: config.trustedProxies.length > 0 ? [...config.trustedProxies] : false,
      routerOptions: { maxParamLength: 200 },
      // Requests that arrive on open connections during a drain are served; their connection ends with the answer.
      return503OnClosing: false,
      // A client's id could be anybody's; ours is what the log and the problem say.
      requestIdHeader: false,
      genReqId: () => randomUUID(),
      // No logger of Fastify's own: a child logger and listeners per request would cost more than a small route.
      childLoggerFactory: () => log,
      logController: new LogController({ disableRequestLogging: true }),
      clientErrorHandler: createClientErrorHandler(headers, httpMetrics.clientErrors),
      frameworkErrors: (error, request, reply) => {
        // These come before routing: no hook has run, so the headers are set here.
        setHeaders(request as FastifyRequest, reply as unknown as FastifyReply, headers)
        sendFailure(reply as unknown as FastifyReply, toFailure(error, request as FastifyRequest))
      },
    })
    // Plugins log through app.log; without a logger option Fastify leaves a silent one there.
    app.log = log
    return app as unknown as App
  } catch (error) {
    if (config.trustedProxies.length === 0 || !(error instanceof TypeError)) throw error
    throw httpError('HTTP_TRUSTED_PROXIES_INVALID', { given: config.trustedProxies }, { cause: error })
  }
}

/** Fastify's parsers go: text/plain would reach handlers as a string, and its JSON parser lets duplicate keys pass. */
function takeJsonOnly(app: App): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // An unknown path is 404 whatever its body holds. An empty body is none: the schema says whether one is needed.
    if (body.length === 0 || request.is404) return done(null, undefined)
    try {
      done(null, parseJson(body))
    } catch (error) {
      done(error as Error, undefined)
    }
  })
}

function addRequestHooks(app: App, headers: Record<string, string>): void {
  app.decorateRequest('startedMs', 0)
  app.addHook('onRequest', (request, reply, done) => {
    request.startedMs = performance.now()
    setHeaders(request, reply, headers)
    const { raw } = request
    if (raw.headers.host === undefined && raw.httpVersion === '1.1') {
      done(commonFailure('BAD_REQUEST', { reason: 'An HTTP/1.1 request must have a Host header.' }))
    } else if ((raw.url as string).includes('%') && !isDecodable(raw.url as string)) {
      done(commonFailure('BAD_REQUEST', { reason: 'The URL is not valid percent-encoding.' }))
    } else {
      done()
    }
  })
}

function setHeaders(request: FastifyRequest, reply: FastifyReply, headers: Record<string, string>): void {
  reply.headers(headers)
  reply.header('x-request-id', request.id)
}

function isDecodable(url: string): boolean {
  try {
    decodeURIComponent(url)
    return true
  } catch {
    return false
  }
}

interface RouteParts {
  routes: RouteTable
  httpMetrics: HttpMetrics
  state: DrainState
  log: Log
}

/** Each route gets its own onSend with its metrics already bound: nothing is looked up while a request is served. */
function addRouteHooks(app: App, { routes, httpMetrics, state, log }: RouteParts): void {
  const logsRequests = log.isLevelEnabled('debug')
  app.addHook('onRoute', route => {
    const methods = [route.method].flat()
    routes.add(route.url, methods)
    closeSchemas(route)
    const routeMetrics = httpMetrics.forRoute(route.url, methods.join(','))
    const onSend = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: SendDone) => {
      if (state.draining) reply.header('connection', 'close')
      routeMetrics.count(reply.statusCode, request.startedMs)
      if (logsRequests)
        log.debug({ requestId: request.id, url: route.url, status: reply.statusCode }, 'request answered')
      done(null, payload)
    }
    route.onSend = [onSend, ...[route.onSend ?? []].flat()] as RouteOptions['onSend']
  })
}

type SendDone = (error: Error | null, payload: unknown) => void

function closeSchemas(route: RouteOptions): void {
  if (!route.schema) return
  const { body, querystring } = route.schema as { body?: TSchema; querystring?: TSchema }
  route.schema = {
    ...route.schema,
    ...(body === undefined ? {} : { body: closeObjects(body) }),
    ...(querystring === undefined ? {} : { querystring: closeObjects(querystring) }),
  }
}

function addNotFound(app: App, { routes, httpMetrics, state }: Omit<RouteParts, 'log'>): void {
  const answer = createNotFoundHandler(routes)
  const unknownRoute = httpMetrics.forRoute('unknown', 'any')
  app.setNotFoundHandler((request, reply) => {
    if (state.draining) reply.header('connection', 'close')
    answer(request, reply)
    unknownRoute.count(reply.statusCode, request.startedMs)
  })
}

function addMetricsRoute(
  app: App,
  metrics: Pick<Metrics, 'render' | 'contentType'>,
  mayRead: NonNullable<HttpOptions['mayReadMetrics']>,
): void {
  const schema = describe({
    summary: 'Metrics as Prometheus text',
    tags: ['probes'],
    session: 'operator',
    response: { 200: Type.String({ description: 'The text format 0.0.4, one sample per line.' }) },
    problems: {
      401: 'UNAUTHENTICATED: an operator token is needed.',
      403: 'FORBIDDEN: the token lacks role metrics.',
    },
  })
  app.get('/metrics', { schema }, async (request, reply) => {
    if (!(await mayRead(request))) throw commonFailure('UNAUTHENTICATED')
    return reply.type(metrics.contentType).send(await metrics.render())
  })
}

async function listen(app: App, config: HttpConfig): Promise<{ port: number }> {
  // Fastify opens a second server for the other family of `localhost`, which a drain would not see.
  const host = config.host === 'localhost' ? '127.0.0.1' : config.host
  const { port } = config
  try {
    await app.listen({ host, port, backlog: 1024 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const suggestion = port < 65_000 ? port + 1 : port - 1
    if (code === 'EADDRINUSE')
      throw httpError('HTTP_PORT_IN_USE', { host, port, suggestion }, { cause: error })
    if (!['EACCES', 'EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN'].includes(code ?? '')) throw error
    throw httpError('HTTP_CANNOT_LISTEN', { host, port, reason: code }, { cause: error })
  }
  return { port: (app.server.address() as AddressInfo).port }
}
