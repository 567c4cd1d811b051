import { chmodSync, rmSync } from 'node:fs'
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { connect } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import { commonFailure, type ErrorRow, Failure, libFailure } from './errors.ts'
import { adoptOwner } from './home.ts'
import type { Log } from './log.ts'

export type ControlRoute = `${'GET' | 'POST'} /${string}`
export type ControlHandler = (body: unknown, query: URLSearchParams) => Promise<unknown> | unknown
export type ControlRoutes = Record<ControlRoute, ControlHandler>

// A verb's arguments, never data: backups and lists travel by file and page.
const bodyLimitBytes = 64 * 1024
const answerLimitBytes = 16 * 1024 * 1024
const defaultTimeoutMs = 5_000

/**
 * Answers JSON verbs on a unix socket (0600). A Failure becomes `{error: {code, message, hint, ...}}` with its status.
 * A stale socket file is replaced; throws CONTROL_IN_USE when somebody listens on it.
 */
export async function serveControl(options: {
  path: string
  routes: ControlRoutes
  log: Log
}): Promise<{ close(): Promise<void> }> {
  const { path, routes, log } = options
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    void answer(request, response, routes, log)
  })
  server.maxConnections = 64
  server.on('clientError', (_error, socket) => socket.destroy())
  await underLock(`${path}.lock`, path, async () => {
    if (await isListening(path)) throw libFailure('CONTROL_IN_USE', { path })
    rmSync(path, { force: true })
    await listenPrivately(server, path)
  })
  return { close: () => closeServer(server) }
}

/** Calls a role's verb. Throws the role's own Failure again, or ROLE_NOT_RUNNING, CONTROL_TIMEOUT, CONTROL_BROKEN. */
export function callControl<T>(options: {
  path: string
  method?: 'GET' | 'POST'
  /** Path and query, such as `/status?verbose=1`. */
  route: string
  body?: unknown
  timeoutMs?: number
}): Promise<T> {
  const { path, route, body } = options
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs
  const method = options.method ?? (body === undefined ? 'GET' : 'POST')
  const payload = body === undefined ? undefined : toJson(body)
  const signal = AbortSignal.timeout(timeoutMs)
  return new Promise<T>((resolve, reject) => {
    const fail = (error: Error) =>
      reject(callFailure(error, { path, route, timeoutMs, timedOut: signal.aborted }))
    const headers =
      payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
    const request = httpRequest(
      { socketPath: path, path: encodeRoute(route), method, signal, agent: false, headers },
      response => {
        readAll(response, answerLimitBytes)
          .then(text => resolve(readAnswer<T>(response, text)))
          .catch(fail)
      },
    )
    request.on('error', fail)
    request.end(payload)
  })
}

/** Whether some process accepts connections there now. */
export function isListening(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    const settle = (listening: boolean) => {
      socket.destroy()
      resolve(listening)
    }
    socket.once('connect', () => settle(true))
    // A full backlog (EAGAIN) and a socket we may not open (EACCES) both have an owner.
    socket.once('error', (error: NodeJS.ErrnoException) =>
      settle(!['ENOENT', 'ECONNREFUSED', 'ENOTSOCK'].includes(error.code ?? '')),
    )
  })
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  routes: ControlRoutes,
  log: Log,
): Promise<void> {
  try {
    const url = new URL(request.url ?? '/', 'http://control')
    const route = `${request.method} ${url.pathname}` as ControlRoute
    if (!Object.hasOwn(routes, route)) throw commonFailure('NOT_FOUND', { what: `control route ${route}` })
    const body = parseBody(await readAll(request, bodyLimitBytes))
    const result = await (routes[route] as ControlHandler)(body, url.searchParams)
    send(response, 200, toJson(result ?? null))
  } catch (error) {
    const failure = error instanceof Failure ? error : commonFailure('INTERNAL', {}, { cause: error })
    if (failure !== error) log.error({ err: error, url: request.url }, 'control request failed')
    const { code, message, hint, row } = failure
    const { status, exit, retry, title } = row
    send(
      response,
      status,
      toJson({ error: { code, message, hint, status, exit, retry, title, facts: failure.facts } }),
    )
  }
}

function send(response: ServerResponse, status: number, text: string): void {
  if (response.destroyed) return
  // One call per connection: a verb is rare, and nothing idles when the role wants to close.
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', connection: 'close' })
  response.end(text)
}

function parseBody(text: string): unknown {
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw commonFailure('BAD_REQUEST', { reason: 'The body is not JSON.' }, { cause: error })
  }
}

async function readAll(stream: IncomingMessage, limitBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  // The rest of a body that is too large is read and dropped, so that the caller can read our answer.
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes <= limitBytes) chunks.push(chunk)
    else if (bytes > limitBytes * 16) break
  }
  if (bytes > limitBytes) throw commonFailure('BODY_TOO_LARGE', { limitBytes })
  return Buffer.concat(chunks).toString('utf8')
}

function readAnswer<T>(response: IncomingMessage, text: string): T {
  const value = JSON.parse(text) as T & {
    error?: ErrorRow & { code: string; facts?: Record<string, unknown> }
  }
  if (response.statusCode === 200) return value
  const { error } = value
  if (typeof error?.code !== 'string') throw new SyntaxError(`status ${response.statusCode}`)
  throw new Failure(error.code, error, error.facts)
}

function callFailure(
  error: NodeJS.ErrnoException,
  facts: { path: string; route: string; timeoutMs: number; timedOut: boolean },
): Failure {
  if (error instanceof Failure) return error
  if (facts.timedOut) return libFailure('CONTROL_TIMEOUT', facts, { cause: error })
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
    return libFailure('ROLE_NOT_RUNNING', facts, { cause: error })
  }
  return libFailure('CONTROL_BROKEN', { ...facts, reason: error.message }, { cause: error })
}

/** Node refuses or mangles characters outside ASCII in a request line. */
function encodeRoute(route: string): string {
  const { pathname, search } = new URL(route, 'http://control')
  return pathname + search
}

function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item) => (typeof item === 'bigint' ? item.toString() : item))
}

function listenPrivately(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // The file is made inside listen(): with this umask it is never open to others, not even for a moment.
    const umaskBefore = process.umask(0o177)
    try {
      server.listen(path, () => {
        server.off('error', reject)
        chmodSync(path, 0o600)
        adoptOwner(path)
        resolve()
      })
    } finally {
      process.umask(umaskBefore)
    }
  })
}

function closeServer(server: Server): Promise<void> {
  return new Promise(resolve => {
    if (!server.listening) return resolve()
    server.close(() => resolve())
    server.closeIdleConnections()
  })
}

// Between finding a socket stale and listening on it, another start may do the same and remove our fresh one. The lock
// is SQLite's: the kernel drops it when its holder dies, so it needs no clean-up after kill -9.
const lockWithinMs = 5_000

async function underLock(lockPath: string, path: string, work: () => Promise<void>): Promise<void> {
  const database = new DatabaseSync(lockPath, { timeout: 0 })
  adoptOwner(lockPath)
  const untilMs = performance.now() + lockWithinMs
  try {
    while (!tryLock(database)) {
      if (performance.now() > untilMs) throw libFailure('CONTROL_IN_USE', { path })
      await delay(20)
    }
    await work()
  } finally {
    database.close()
  }
}

function tryLock(database: DatabaseSync): boolean {
  try {
    database.exec('BEGIN EXCLUSIVE')
    return true
  } catch (error) {
    if (/locked|busy/.test((error as Error).message)) return false
    throw error
  }
}
