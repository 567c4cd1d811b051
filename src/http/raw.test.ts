import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import Type from 'typebox'
import { parseAnswer, RawClient, startServer } from './testing.ts'
import type { App } from './types.ts'

const routes = (app: App) => {
  app.post('/echo', { schema: { body: Type.Object({ a: Type.Optional(Type.Integer()) }) } }, request => ({
    got: request.body,
  }))
}

/** Sends bytes on a connection of their own and gives the one answer. */
async function answerTo(
  t: Parameters<typeof RawClient.connect>[0],
  port: number,
  bytes: string | Uint8Array,
) {
  const client = (await RawClient.connect(t, port)).send(bytes)
  const text = await client.until(/\r\n\r\n[\s\S]*}/)
  return { ...parseAnswer(text), client }
}

function assertProblem(answer: ReturnType<typeof parseAnswer>, status: number, code: string): void {
  assert.equal(answer.status, status, answer.body)
  assert.match(answer.headers['content-type'] ?? '', /^application\/problem\+json/)
  assert.equal(answer.headers['x-content-type-options'], 'nosniff')
  const problem = JSON.parse(answer.body)
  assert.equal(problem.code, code)
  assert.equal(problem.status, status)
  assert.equal(problem.requestId, answer.headers['x-request-id'])
}

const post = (headers: string, body = '') => `POST /echo HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n${body}`
const json = 'Content-Type: application/json\r\n'

test('bytes that are no HTTP request get a well-formed 400 problem and the connection ends', async t => {
  const { port } = await startServer(t, { routes })
  for (const bytes of [
    'hello\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'GET / HTTP/9.9\r\n\r\n',
    'GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n',
    post(`${json}Content-Length: abc`),
    post(`${json}Content-Length: -1`),
    post(`${json}Content-Length: 1\r\nContent-Length: 2`, '{}'),
    post(`${json}Content-Length: 2\r\nTransfer-Encoding: chunked`, '{}'),
    post(`${json}Transfer-Encoding: chunked`, 'zz\r\n{}\r\n0\r\n\r\n'),
    post(`${json}Transfer-Encoding: gzip, nonsense`, '{}'),
  ]) {
    const { client, ...answer } = await answerTo(t, port, bytes)
    assertProblem(answer, 400, 'BAD_REQUEST')
    assert.equal(answer.headers.connection, 'close', bytes)
    assert.equal(Number(answer.headers['content-length']), Buffer.byteLength(answer.body))
    await client.untilClosed()
  }
})

test('headers beyond the limit get a 431 problem', async t => {
  const { port } = await startServer(t, { routes })
  for (const bytes of [
    `GET / HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(20_000)}\r\n\r\n`,
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\n`,
  ]) {
    assertProblem(await answerTo(t, port, bytes), 431, 'HEADERS_TOO_LARGE')
  }
})

test('a request that does not arrive in time gets a 408 problem, whether its headers or its body are late', async t => {
  const { port } = await startServer(t, { routes, config: { headersTimeoutMs: 100, requestTimeoutMs: 200 } })
  assertProblem(await answerTo(t, port, 'GET / HTTP/1.1\r\nHost'), 408, 'TIMEOUT')
  assertProblem(await answerTo(t, port, post(`${json}Content-Length: 10`, '{')), 408, 'TIMEOUT')
})

test('a body that breaks off is dropped and the server goes on', async t => {
  const { port, url } = await startServer(t, { routes })
  const client = (await RawClient.connect(t, port)).send(post(`${json}Content-Length: 10`, '{'))
  await (await RawClient.connect(t, port)).send('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n').until(/"ok"/)
  client.socket.destroy()
  assert.equal((await fetch(`${url}/livez`)).status, 200)
})

test('a missing Host is a 400 problem in HTTP/1.1 and fine in HTTP/1.0', async t => {
  const { port } = await startServer(t, { routes })
  assertProblem(await answerTo(t, port, 'GET /livez HTTP/1.1\r\n\r\n'), 400, 'BAD_REQUEST')
  assert.equal((await answerTo(t, port, 'GET /livez HTTP/1.0\r\n\r\n')).status, 200)
})

test('Expect: 100-continue is answered and then the request; another expectation is a 417 problem', async t => {
  const { port } = await startServer(t, { routes })
  const client = await RawClient.connect(t, port)
  client.send(post(`${json}Content-Length: 7\r\nExpect: 100-continue`))
  await client.until(/^HTTP\/1\.1 100 Continue\r\n\r\n/)
  client.send('{"a":1}')
  await client.until(/"got":\{"a":1\}/)
  assertProblem(
    await answerTo(t, port, post(`${json}Expect: a-miracle\r\nContent-Length: 2`, '{}')),
    417,
    'EXPECTATION_FAILED',
  )
})

test('a body over the limit gets a 413 problem that the client can read, and the connection lives on', async t => {
  const { port } = await startServer(t, { routes })
  const client = await RawClient.connect(t, port)
  const body = JSON.stringify({ a: 'x'.repeat(500_000) })
  client.send(post(`${json}Content-Length: ${body.length}`, body))
  const answer = parseAnswer(await client.until(/BODY_TOO_LARGE[\s\S]*}/))
  assertProblem(answer, 413, 'BODY_TOO_LARGE')
  assert.match(answer.body, /larger than 16384 bytes/)
  client.received = ''
  client.send('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
  await client.until(/"ok"/)
})

test('the last byte within the body limit is taken, in one piece and in chunks', async t => {
  const { port } = await startServer(t, { routes })
  const body = `{"a":1${' '.repeat(16_384 - 7)}}`
  assert.equal((await answerTo(t, port, post(`${json}Content-Length: ${body.length}`, body))).status, 200)
  const chunked = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`
  assert.equal(
    (await answerTo(t, port, post(`${json}Transfer-Encoding: chunked`, chunked(body)))).status,
    200,
  )
  const larger = await answerTo(t, port, post(`${json}Transfer-Encoding: chunked`, chunked(`${body} `)))
  assertProblem(larger, 413, 'BODY_TOO_LARGE')
})

test('requests sent ahead on one connection are answered in order, problems included', async t => {
  const { port } = await startServer(t, { routes })
  const client = await RawClient.connect(t, port)
  const good = post(`${json}Content-Length: 7`, '{"a":1}')
  const bad = post(`${json}Content-Length: 9`, '{"a":"x"}')
  client.send(good + bad + good)
  const text = await client.until(/"got"[\s\S]*VALIDATION[\s\S]*"got"/)
  assert.deepEqual(text.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 400', 'HTTP/1.1 200'])
})

test('strange methods and upgrades are answered, not obeyed', async t => {
  const { port } = await startServer(t, { routes })
  for (const method of ['PROPFIND', 'TRACE', 'OPTIONS', 'M-SEARCH']) {
    const answer = await answerTo(t, port, `${method} /livez HTTP/1.1\r\nHost: x\r\n\r\n`)
    assert.equal(answer.status, 405, method)
    assert.equal(answer.headers.allow, 'GET, HEAD')
  }
  const upgrade = 'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
  assert.equal((await answerTo(t, port, upgrade)).status, 200)
})

test('connections above the maximum are closed at once and the others are served', async t => {
  const { port } = await startServer(t, { config: { maxConnections: 2 } })
  const first = await RawClient.connect(t, port)
  const second = await RawClient.connect(t, port)
  await first.send('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n').until(/"ok"/)
  const third = await RawClient.connect(t, port)
  assert.equal(await third.untilClosed(), '')
  await second.send('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n').until(/"ok"/)
})

test('random bytes never end the server and never make a 5xx', async t => {
  const { port, url, logged } = await startServer(t, {
    routes,
    config: { headersTimeoutMs: 100, requestTimeoutMs: 100 },
  })
  const start = fc.constantFrom(
    '',
    'GET / HTTP/1.1\r\n',
    post(json.trimEnd()),
    post(`${json}Content-Length: 5`),
    'POST /echo HTTP/1.1\r\nHost: x\r\n',
  )
  await fc.assert(
    fc.asyncProperty(start, fc.uint8Array({ maxLength: 200 }), async (prefix, bytes) => {
      const client = (await RawClient.connect(t, port)).send(prefix)
      client.socket.end(bytes)
      const text = await client.untilClosed()
      assert.doesNotMatch(text, /^HTTP\/1\.1 5/m)
    }),
    { numRuns: 60 },
  )
  assert.equal((await fetch(`${url}/livez`)).status, 200)
  assert.deepEqual(
    logged.filter(line => line.level === 'error'),
    [],
  )
})
