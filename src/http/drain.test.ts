import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { parseAnswer, RawClient, startServer } from './testing.ts'
import type { App } from './types.ts'

const getRequest = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`

/** A route whose answer waits until the test lets it go. */
function gate() {
  const entered = Promise.withResolvers<void>()
  const release = Promise.withResolvers<{ done: boolean }>()
  const routes = (app: App) => {
    app.get('/wait', () => {
      entered.resolve()
      return release.promise
    })
  }
  return { entered: entered.promise, release: () => release.resolve({ done: true }), routes }
}

test('a request in flight when the drain begins gets its answer, its connection closes, and the drain ends', async t => {
  const { entered, release, routes } = gate()
  const { http, port } = await startServer(t, { routes })
  const client = (await RawClient.connect(t, port)).send(getRequest('/wait'))
  await entered
  const startedMs = performance.now()
  const drained = http.drain(30_000)
  release()
  const answer = parseAnswer(await client.untilClosed())
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.connection, 'close')
  assert.equal(answer.body, '{"done":true}')
  await drained
  assert.ok(performance.now() - startedMs < 10_000)
})

test('an idle keep-alive connection does not hold the drain', async t => {
  const { http, port } = await startServer(t)
  const client = (await RawClient.connect(t, port)).send(getRequest('/livez'))
  await client.until(/"ok"/)
  await http.drain(30_000)
  await client.untilClosed()
})

test('during the drain readiness is off and new connections are refused', async t => {
  const { entered, release, routes } = gate()
  const { http, port } = await startServer(t, { routes })
  const waiting = (await RawClient.connect(t, port)).send(getRequest('/wait'))
  // The second request of this connection waits behind the first, so it is answered in the middle of the drain.
  waiting.send(getRequest('/readyz'))
  await entered
  const drained = http.drain(30_000)
  await assert.rejects(RawClient.connect(t, port), { code: 'ECONNREFUSED' })
  release()
  const text = await waiting.untilClosed()
  assert.match(text, /"done":true/)
  await drained
})

test('a probe whose connection was busy hears 503 and why', async t => {
  const ready = Promise.withResolvers<{ ready: boolean; reasons: string[] }>()
  const { http, port } = await startServer(t, { ready: () => ready.promise })
  const inFlight = (await RawClient.connect(t, port)).send(getRequest('/startupz'))
  const late = (await RawClient.connect(t, port)).send('GET /readyz HTTP/1.1\r\nHost: x\r\n')
  await (await RawClient.connect(t, port)).send(getRequest('/livez')).until(/"ok"/)
  const drained = http.drain(30_000)
  late.send('\r\n')
  const answer = parseAnswer(await late.untilClosed())
  assert.equal(answer.status, 503)
  assert.match(answer.body, /shutting down/)
  ready.resolve({ ready: true, reasons: [] })
  await inFlight.untilClosed()
  await drained
})

test('at the deadline a request that does not end is cut off and the drain resolves', async t => {
  const { entered, routes } = gate()
  const { http, port, logged } = await startServer(t, { routes })
  const client = (await RawClient.connect(t, port)).send(getRequest('/wait'))
  await entered
  const startedMs = performance.now()
  await http.drain(50)
  assert.ok(performance.now() - startedMs < 5_000)
  assert.equal(await client.untilClosed(), '')
  assert.ok(logged.some(line => /cut off at the drain deadline/.test(String(line.msg))))
})

test('a second drain hurries the first', async t => {
  const { entered, routes } = gate()
  const { http, port } = await startServer(t, { routes })
  ;(await RawClient.connect(t, port)).send(getRequest('/wait'))
  await entered
  const first = http.drain(600_000)
  await http.drain(10)
  await first
})

test('a client that sends its body for ever does not hold the drain beyond its deadline', async t => {
  const { http, port } = await startServer(t, { routes: app => void app.post('/echo', async () => ({})) })
  const client = await RawClient.connect(t, port)
  client.send(
    'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{',
  )
  await (await RawClient.connect(t, port)).send(getRequest('/livez')).until(/"ok"/)
  await http.drain(50)
  await client.untilClosed()
})

test('a server that never listened drains at once', async t => {
  const { http } = await startServer(t)
  await http.drain(0)
  await http.drain(0)
  assert.equal(http.app.server.listening, false)
})

test('onClose hooks run before the drain resolves', async t => {
  const closed: string[] = []
  const { http } = await startServer(t, {
    routes: app => void app.addHook('onClose', async () => void closed.push('closed')),
  })
  const serverClosed = once(http.app.server, 'close')
  await http.drain(10_000)
  await serverClosed
  assert.deepEqual(closed, ['closed'])
})
