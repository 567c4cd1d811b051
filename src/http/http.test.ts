import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import Type from 'typebox'
import { loadConfig } from '#lib/config.ts'
import { commonFailure, Failure } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { httpSlice } from './config.ts'
import { createHttp } from './http.ts'
import { chipsSchema, describe } from './schemas.ts'
import { startServer } from './testing.ts'
import { type App, type RoutePlugin, sendJson } from './types.ts'

const spinBody = Type.Object({
  stakePerLine: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
  lines: Type.Integer({ minimum: 1, maximum: 10 }),
})

const gameRoutes: RoutePlugin<{ bonus: number }> = async (app, { bonus }) => {
  const spin = describe({
    summary: 'Play one round',
    response: { 200: Type.Object({ stake: chipsSchema }) },
    problems: { 402: 'The balance is too small (INSUFFICIENT_BALANCE).' },
  })
  app.post('/api/spin', { schema: { ...spin, body: spinBody } }, async (request, reply) => {
    const stake: number = request.body.stakePerLine * request.body.lines + bonus
    return sendJson(reply, `{ "stake" :"${stake}"}`)
  })
  const round = describe({
    summary: 'One round',
    response: { 200: Type.Object({ id: Type.Integer(), limit: Type.Integer() }) },
  })
  const querystring = Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 50, default: 20 }) })
  const params = Type.Object({ id: Type.Integer({ minimum: 1 }) })
  app.get('/api/rounds/:id', { schema: { ...round, params, querystring } }, async request => ({
    id: request.params.id,
    limit: request.query.limit,
  }))
}

const routes = (app: App) => {
  void app.register(gameRoutes, { bonus: 0 })
  app.post('/logout', async () => ({ done: true }))
  app.get('/boom', () => {
    throw new Error('SECRET', { cause: new Error('deeper SECRET') })
  })
  app.get('/boom/string', () => Promise.reject('SECRET'))
  app.get('/boom/status', () =>
    Promise.reject(Object.assign(new Error('SECRET'), { statusCode: 418, code: 'X' })),
  )
  app.get('/busy', () => {
    throw commonFailure('UNAVAILABLE', { reason: 'The queue is full.', retryAfterSeconds: 1.5 })
  })
  app.get('/private', () => {
    throw commonFailure('UNAUTHENTICATED')
  })
}

const postJson = (body: string, headers: Record<string, string> = {}) => ({
  method: 'POST',
  body,
  headers: { 'content-type': 'application/json', ...headers },
})

interface Problem {
  type: string
  title: string
  status: number
  code: string
  detail: string
  requestId: string
  hint?: string
  errors?: { field: string; message: string }[]
}

async function problemOf(url: string, init?: RequestInit): Promise<Problem & { response: Response }> {
  const response = await fetch(url, init)
  assert.match(response.headers.get('content-type') ?? '', /^application\/problem\+json/)
  const problem = (await response.json()) as Problem
  assert.equal(problem.status, response.status)
  assert.equal(problem.requestId, response.headers.get('x-request-id'))
  assert.equal(problem.type, `/docs#${problem.code}`)
  return { ...problem, response }
}

test('a typed route answers, and prerendered JSON leaves byte for byte', async t => {
  const { url } = await startServer(t, { routes })
  const response = await fetch(`${url}/api/spin`, postJson('{"stakePerLine":5,"lines":3}'))
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'application/json; charset=utf-8')
  assert.equal(await response.text(), '{ "stake" :"15"}')
  assert.deepEqual(await (await fetch(`${url}/api/rounds/7?limit=3`)).json(), { id: 7, limit: 3 })
  assert.deepEqual(await (await fetch(`${url}/api/rounds/7`)).json(), { id: 7, limit: 20 })
})

test('HEAD answers as GET does, with the length and without the body', async t => {
  const { url } = await startServer(t, { routes })
  for (const path of ['/livez', '/api/rounds/7', '/docs', '/openapi.json']) {
    const get = await fetch(url + path)
    const head = await fetch(url + path, { method: 'HEAD' })
    assert.equal(head.status, 200, path)
    assert.equal(await head.text(), '')
    assert.equal(Number(head.headers.get('content-length')), (await get.arrayBuffer()).byteLength, path)
  }
})

test('security headers are on answers and on problems of every kind; HSTS only behind https', async t => {
  const { url } = await startServer(t, { routes, config: { publicUrl: 'https://slots.example' } })
  for (const path of ['/livez', '/api/rounds/7', '/nope', '/boom', '/%ff', '/docs']) {
    const { headers } = await fetch(url + path)
    assert.match(
      headers.get('content-security-policy') ?? '',
      /^default-src 'none';.*frame-ancestors 'none'/,
      path,
    )
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.equal(headers.get('referrer-policy'), 'no-referrer')
    assert.equal(headers.get('cross-origin-resource-policy'), 'same-origin')
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.match(headers.get('strict-transport-security') ?? '', /max-age=\d{8}/)
    assert.match(headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/)
  }
  const plain = await startServer(t)
  assert.equal((await fetch(`${plain.url}/livez`)).headers.get('strict-transport-security'), null)
})

test("a request id is ours, new each time, and never the client's", async t => {
  const { url } = await startServer(t)
  const idOf = async () =>
    (await fetch(`${url}/livez`, { headers: { 'x-request-id': 'mine', 'request-id': 'mine' } })).headers.get(
      'x-request-id',
    )
  const [first, second] = [await idOf(), await idOf()]
  assert.notEqual(first, 'mine')
  assert.notEqual(first, second)
})

test('an unknown path is 404, a known one with another method is 405 with Allow', async t => {
  const { url } = await startServer(t, { routes })
  assert.equal((await problemOf(`${url}/nope`)).code, 'NOT_FOUND')
  assert.equal((await problemOf(`${url}/nope`, postJson('{bad json'))).code, 'NOT_FOUND')
  assert.equal((await problemOf(`${url}/api/rounds/${'7'.repeat(300)}`)).code, 'NOT_FOUND')
  const wrong = await problemOf(`${url}/api/spin`)
  assert.equal(wrong.status, 405)
  assert.equal(wrong.response.headers.get('allow'), 'POST')
  assert.equal(wrong.hint, 'Use POST.')
  const removed = await problemOf(`${url}/api/rounds/7?x=1`, { method: 'DELETE' })
  assert.equal(removed.response.headers.get('allow'), 'GET, HEAD')
})

test('validation names every offending field and the mend', async t => {
  const { url } = await startServer(t, { routes })
  const problem = await problemOf(`${url}/api/spin`, postJson('{"stakePerLine":"5","line":3}'))
  assert.equal(problem.status, 400)
  assert.equal(problem.code, 'VALIDATION')
  assert.deepEqual(problem.errors?.map(({ field }) => field).sort(), ['line', 'lines', 'stakePerLine'])
  assert.match(problem.detail, /stakePerLine must be an integer from 1 to 1000000/)
  const query = await problemOf(`${url}/api/rounds/7?limit=x`)
  assert.match(query.detail, /^The query is not valid: limit must be an integer from 1 to 50/)
  assert.equal((await problemOf(`${url}/api/rounds/0`)).errors?.[0]?.field, 'id')
})

test('duplicate, forbidden and oversized JSON never reaches a handler', async t => {
  const { url } = await startServer(t, { routes })
  for (const [body, field] of [
    ['{"stakePerLine":5,"lines":3,"lines":4}', 'lines'],
    ['{"stakePerLine":5,"lines":3,"__proto__":{"a":1}}', '__proto__'],
    ['{"stakePerLine":5,"lines":3,"constructor":{"prototype":{}}}', 'constructor'],
    ['{"stakePerLine":9007199254740993,"lines":3}', 'stakePerLine'],
    ['{"stakePerLine":1e999,"lines":3}', 'stakePerLine'],
    ['', ''],
    ['null', ''],
    ['[]', ''],
  ] as const) {
    const problem = await problemOf(`${url}/api/spin`, postJson(body))
    assert.equal(problem.code, 'VALIDATION', body)
    assert.equal(problem.errors?.[0]?.field, field, body)
  }
  assert.equal((await problemOf(`${url}/api/spin`, postJson('{"stakePerLine":'))).code, 'BAD_REQUEST')
})

test('a missing or other content type is 415 and names the accepted one; a body that is none needs none', async t => {
  const { url } = await startServer(t, { routes })
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonx',
    'nonsense',
    ';',
    'multipart/form-data',
  ]) {
    const problem = await problemOf(`${url}/api/spin`, postJson('{}', { 'content-type': type }))
    assert.equal(problem.status, 415, type)
    assert.equal(problem.hint, 'Send it as application/json.')
  }
  assert.equal((await problemOf(`${url}/api/spin`, { method: 'POST', body: new Blob(['{}']) })).status, 415)
  for (const type of [
    'application/json',
    'APPLICATION/JSON; charset=utf-8',
    'application/json;charset=UTF-8',
  ]) {
    const response = await fetch(
      `${url}/api/spin`,
      postJson('{"stakePerLine":5,"lines":3}', { 'content-type': type }),
    )
    assert.equal(response.status, 200, type)
  }
  assert.equal((await fetch(`${url}/logout`, { method: 'POST' })).status, 200)
  assert.equal((await fetch(`${url}/logout`, postJson(''))).status, 200)
})

test('malformed percent-encoding is a 400 problem in the path and in the query', async t => {
  const { url } = await startServer(t, { routes })
  for (const path of [
    '/%',
    '/%zz',
    '/%ff',
    '/api/rounds/%c3',
    '/livez?x=%',
    '/api/rounds/7?limit=%e0%a4',
    '/nope?%%',
  ]) {
    assert.equal((await problemOf(url + path)).code, 'BAD_REQUEST', path)
  }
  assert.equal((await fetch(`${url}/livez?x=%C3%B1`)).status, 200)
  assert.equal((await problemOf(`${url}/api/rounds/%00`)).code, 'VALIDATION')
})

test('an unknown error is INTERNAL, leaks no text, and is logged with its cause under the request id', async t => {
  const { url, logged } = await startServer(t, { routes })
  for (const path of ['/boom', '/boom/string', '/boom/status']) {
    const problem = await problemOf(url + path)
    assert.equal(problem.status, 500)
    assert.equal(problem.code, 'INTERNAL')
    assert.doesNotMatch(JSON.stringify(problem), /SECRET/)
    const line = logged.find(({ requestId }) => requestId === problem.requestId)
    assert.equal(line?.level, 'error')
    assert.match(JSON.stringify(line), /SECRET/)
  }
  assert.match(JSON.stringify(logged), /deeper SECRET/)
})

test('a failure leaves as its row says, with Retry-After and WWW-Authenticate where they belong', async t => {
  const { url, logged } = await startServer(t, { routes })
  const busy = await problemOf(`${url}/busy`)
  assert.equal(busy.status, 503)
  assert.equal(busy.detail, 'The queue is full.')
  assert.equal(busy.response.headers.get('retry-after'), '2')
  const unknown = await problemOf(`${url}/private`)
  assert.equal(unknown.response.headers.get('www-authenticate'), 'Bearer')
  assert.deepEqual(
    logged.filter(line => line.level === 'error'),
    [],
  )
})

test('requests leave no line at level info', async t => {
  const { url, logged } = await startServer(t, { routes })
  const before = logged.length
  await fetch(`${url}/livez`)
  await fetch(`${url}/nope`)
  await fetch(`${url}/api/spin`, postJson('{}'))
  assert.equal(logged.length, before)
})

test('metrics are for those who may read them and count by route pattern, method and class', async t => {
  const closed = await startServer(t)
  assert.equal((await problemOf(`${closed.url}/metrics`)).status, 401)
  const { url } = await startServer(t, {
    routes,
    mayReadMetrics: async request => request.headers.authorization === 'Bearer metrics',
  })
  assert.equal((await problemOf(`${url}/metrics`)).status, 401)
  for (const path of ['/api/rounds/1', '/api/rounds/2', '/api/rounds/x', '/nope/1', '/nope/2', '/boom'])
    await fetch(url + path)
  const response = await fetch(`${url}/metrics`, { headers: { authorization: 'Bearer metrics' } })
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  const text = await response.text()
  const requests = (labels: string) =>
    new RegExp(`moonyetis_http_requests_total\\{${labels}\\} (\\d+)`).exec(text)?.[1]
  assert.equal(requests('route="/api/rounds/:id",method="GET",status="2xx"'), '2')
  assert.equal(requests('route="/api/rounds/:id",method="GET",status="4xx"'), '1')
  assert.equal(requests('route="/boom",method="GET",status="5xx"'), '1')
  assert.equal(requests('route="unknown",method="any",status="4xx"'), '2')
  assert.match(
    text,
    /moonyetis_http_request_duration_seconds_count\{route="\/api\/rounds\/:id",method="GET"\} 3/,
  )
  assert.doesNotMatch(text, /nope/)
})

test('the API describes itself in OpenAPI 3.1 with its problems', async t => {
  const { url } = await startServer(t, { routes, config: { publicUrl: 'https://slots.example' } })
  const response = await fetch(`${url}/openapi.json`)
  const document = (await response.json()) as {
    openapi: string
    servers: object[]
    paths: Record<string, Record<string, never>>
  }
  assert.equal(document.openapi, '3.1.0')
  assert.deepEqual(document.servers, [{ url: 'https://slots.example' }])
  const spin = JSON.stringify(document.paths['/api/spin']?.post)
  assert.match(spin, /"stakePerLine"/)
  assert.match(spin, /"additionalProperties":false/)
  assert.match(
    spin,
    /"402":\{"description":"The balance is too small[^}]*"content":\{"application\/problem\+json"/,
  )
  // Only what takes a body can find it too large, or of another type.
  assert.match(spin, /"413":.*"415":/)
  assert.ok(document.paths['/api/rounds/{id}']?.get)
  assert.doesNotMatch(JSON.stringify(document.paths['/api/rounds/{id}']), /"41[35]":/)
  assert.equal(document.paths['/docs'], undefined)
})

test('the docs page lists routes, fields and codes, holds no script and fits its own policy', async t => {
  const { url } = await startServer(t, {
    routes,
    errorRows: { ODD: { status: 409, exit: 1, retry: false, title: 'Odd <b>', message: 'x' } },
  })
  const response = await fetch(`${url}/docs`)
  const html = await response.text()
  assert.match(response.headers.get('content-type') ?? '', /^text\/html/)
  assert.match(html, /POST \/api\/spin/)
  assert.match(html, /stakePerLine/)
  assert.match(html, /curl -X POST/)
  assert.match(html, /id="ODD"/)
  assert.match(html, /id="VALIDATION"/)
  assert.doesNotMatch(html, /<script|<b>|javascript:/i)
  const [, style = ''] = /<style>([\s\S]*?)<\/style>/.exec(html) ?? []
  const digest = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(style))).toString('base64')
  assert.ok(response.headers.get('content-security-policy')?.includes(`'sha256-${digest}'`))
})

test('a taken port is a failure that names the port and the mend', async t => {
  const { port } = await startServer(t)
  const config = { ...loadConfig([httpSlice], { env: { PORT: String(port) } }).values.http }
  const ready = () => ({ ready: true, reasons: [] })
  const second = await createHttp({ config, log: silentLog, metrics: createMetrics(), ready, version: '1' })
  await assert.rejects(second.listen(), (error: unknown) => {
    assert.ok(error instanceof Failure)
    assert.equal(error.code, 'HTTP_PORT_IN_USE')
    assert.equal(error.row.exit, 1)
    assert.match(error.message, new RegExp(`Port ${port} `))
    assert.match(error.hint ?? '', /PORT=\d+ npm start/)
    return true
  })
  await second.drain(1_000)
})

test('an address of another machine and proxies that are no addresses are failures of their own', async () => {
  const create = (env: NodeJS.ProcessEnv) => {
    const config = { ...loadConfig([httpSlice], { env: { PORT: '0', ...env } }).values.http }
    const ready = () => ({ ready: true, reasons: [] })
    return createHttp({ config, log: silentLog, metrics: createMetrics(), ready, version: '1' })
  }
  const away = await create({ HOST: '192.0.2.1' })
  await assert.rejects(away.listen(), { code: 'HTTP_CANNOT_LISTEN' })
  await away.drain(1_000)
  await assert.rejects(create({ TRUSTED_PROXIES: 'my-proxy' }), { code: 'HTTP_TRUSTED_PROXIES_INVALID' })
})

test('the address of a client comes from a header only behind a trusted proxy', async t => {
  const whoami = (app: App) => void app.get('/ip', request => ({ ip: request.ip }))
  const ipOf = async (url: string) =>
    (
      (await (await fetch(`${url}/ip`, { headers: { 'x-forwarded-for': '203.0.113.9' } })).json()) as {
        ip: string
      }
    ).ip
  assert.equal(await ipOf((await startServer(t, { routes: whoami })).url), '127.0.0.1')
  const behind = await startServer(t, { routes: whoami, config: { trustedProxies: ['127.0.0.0/8'] } })
  assert.equal(await ipOf(behind.url), '203.0.113.9')
})

test('cookies are read and written', async t => {
  const { url } = await startServer(t, {
    routes: app =>
      void app.get('/cookie', (request, reply) => {
        reply.setCookie('a', '1', { httpOnly: true, sameSite: 'strict', path: '/' })
        return { got: request.cookies.b ?? null }
      }),
  })
  const response = await fetch(`${url}/cookie`, { headers: { cookie: 'b=x%20y; =; ;;; c' } })
  assert.deepEqual(await response.json(), { got: 'x y' })
  assert.equal(response.headers.get('set-cookie'), 'a=1; Path=/; HttpOnly; SameSite=Strict')
})

test('whatever body arrives, the answer is 200 or a 4xx problem', async t => {
  const { url, logged } = await startServer(t, { routes })
  const nearlyRight = fc
    .tuple(fc.jsonValue(), fc.jsonValue(), fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 2 }))
    .map(([stakePerLine, lines, more]) => JSON.stringify({ stakePerLine, lines, ...more }))
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.json(), nearlyRight, fc.string()), async body => {
      const response = await fetch(`${url}/api/spin`, postJson(body))
      assert.ok(
        response.status === 200 || (response.status >= 400 && response.status < 500),
        `${response.status}: ${body}`,
      )
      await response.text()
    }),
    { numRuns: 150 },
  )
  assert.deepEqual(
    logged.filter(line => line.level === 'error'),
    [],
  )
})
