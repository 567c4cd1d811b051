import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type ControlRoutes, callControl, isListening, serveControl } from './control.ts'
import { defineErrors, Failure } from './errors.ts'
import { silentLog } from './log.ts'

const { failure } = defineErrors({
  BAN_UNKNOWN: {
    status: 404,
    exit: 3,
    retry: false,
    title: 'No such ban',
    message: 'No ban of {cidr}.',
    hint: 'List them.',
  },
})

function socketPath(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'control-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return join(directory, 'role.sock')
}

async function serve(t: TestContext, routes: ControlRoutes, path = socketPath(t)) {
  const control = await serveControl({ path, routes, log: silentLog })
  t.after(() => control.close())
  return { path, control }
}

async function failureOf(promise: Promise<unknown>): Promise<Failure> {
  const error = await promise.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Failure, String(error))
  return error
}

test('a verb gets body and query and answers JSON, with bigints as digit strings', async t => {
  const { path } = await serve(t, {
    'POST /echo': (body, query) => ({ body, q: query.get('q'), big: 2n ** 62n }),
    'GET /nothing': () => undefined,
  })
  const answer = await callControl({ path, route: '/echo?q=ñ%20x', body: { a: [1, 'ü'] } })
  assert.deepEqual(answer, { body: { a: [1, 'ü'] }, q: 'ñ x', big: '4611686018427387904' })
  assert.equal(await callControl({ path, route: '/nothing' }), null)
})

test('the socket is private', async t => {
  const { path } = await serve(t, {})
  assert.equal(statSync(path).mode & 0o777, 0o600)
})

test("a role's failure reaches the caller whole", async t => {
  const { path } = await serve(t, {
    'POST /unban': () => {
      throw failure('BAN_UNKNOWN', { cidr: '10.0.0.0/8' })
    },
  })
  const error = await failureOf(callControl({ path, route: '/unban', body: {} }))
  assert.equal(error.code, 'BAN_UNKNOWN')
  assert.equal(error.message, 'No ban of 10.0.0.0/8.')
  assert.equal(error.hint, 'List them.')
  assert.equal(error.row.exit, 3)
  assert.equal(error.row.status, 404)
})

test('an unknown error leaves as INTERNAL without its text', async t => {
  const { path } = await serve(t, { 'GET /boom': () => Promise.reject(new Error('the password is x')) })
  const error = await failureOf(callControl({ path, route: '/boom' }))
  assert.equal(error.code, 'INTERNAL')
  assert.doesNotMatch(JSON.stringify(error), /password/)
})

test('an unknown route, another method and names of the prototype are not found', async t => {
  const { path } = await serve(t, { 'GET /status': () => 1 })
  for (const call of [
    { route: '/nope' },
    { route: '/status', method: 'POST' },
    { route: '/constructor' },
  ] as const) {
    assert.equal((await failureOf(callControl({ path, ...call }))).code, 'NOT_FOUND')
  }
})

test('a body of 64 KiB is taken, one byte more is refused, as is one far larger', async t => {
  const { path } = await serve(t, { 'POST /length': body => (body as string).length })
  const limit = 64 * 1024
  const textOf = (bytes: number) => 'x'.repeat(bytes - 2)
  assert.equal(await callControl({ path, route: '/length', body: textOf(limit) }), limit - 2)
  assert.equal(
    (await failureOf(callControl({ path, route: '/length', body: textOf(limit + 1) }))).code,
    'BODY_TOO_LARGE',
  )
  const huge = await failureOf(callControl({ path, route: '/length', body: textOf(limit * 40) }))
  assert.ok(['BODY_TOO_LARGE', 'CONTROL_BROKEN'].includes(huge.code), huge.code)
  assert.equal(await callControl({ path, route: '/length', body: 'still here' }), 10)
})

test('a body that is no JSON is refused', async t => {
  const { path } = await serve(t, { 'POST /x': () => 1 })
  const socket = connect(path)
  socket.end('POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{]')
  const [answer] = (await once(socket, 'data')) as [Buffer]
  assert.match(answer.toString(), /^HTTP\/1\.1 400 /)
  assert.match(answer.toString(), /BAD_REQUEST/)
})

test('a second server on a live socket is refused and the first one goes on', async t => {
  const { path } = await serve(t, { 'GET /who': () => 'first' })
  assert.equal((await failureOf(serveControl({ path, routes: {}, log: silentLog }))).code, 'CONTROL_IN_USE')
  assert.equal(await callControl({ path, route: '/who' }), 'first')
})

test('of ten servers that start at once on a stale socket exactly one wins', async t => {
  const path = await staleSocket(t)
  const starts = Array.from({ length: 10 }, (_, i) =>
    serveControl({ path, routes: { 'GET /who': () => i }, log: silentLog }),
  )
  const settled = await Promise.allSettled(starts)
  const winners = settled.flatMap((one, i) => (one.status === 'fulfilled' ? [{ i, control: one.value }] : []))
  assert.equal(winners.length, 1)
  assert.equal(await callControl({ path, route: '/who' }), winners[0]?.i)
  for (const one of settled) if (one.status === 'rejected') assert.equal(one.reason.code, 'CONTROL_IN_USE')
  await winners[0]?.control.close()
})

test('a socket that a killed process left is replaced, and so is a plain file', async t => {
  const { path } = await serve(t, { 'GET /x': () => 1 }, await staleSocket(t))
  assert.equal(await callControl({ path, route: '/x' }), 1)
  const other = socketPath(t)
  writeFileSync(other, 'not a socket')
  await serve(t, { 'GET /x': () => 2 }, other)
  assert.equal(await callControl({ path: other, route: '/x' }), 2)
})

test('a role that is not there is named as not running', async t => {
  assert.equal((await failureOf(callControl({ path: socketPath(t), route: '/x' }))).code, 'ROLE_NOT_RUNNING')
  const stale = await staleSocket(t)
  assert.equal((await failureOf(callControl({ path: stale, route: '/x' }))).code, 'ROLE_NOT_RUNNING')
  assert.equal(await isListening(stale), false)
})

test('a role that does not answer is a timeout, and one that answers rubbish is broken', async t => {
  const { path } = await serve(t, { 'GET /slow': () => new Promise(() => {}) })
  assert.equal(
    (await failureOf(callControl({ path, route: '/slow', timeoutMs: 50 }))).code,
    'CONTROL_TIMEOUT',
  )
  const rubbishPath = socketPath(t)
  const rubbish = createServer((_request, response) => response.writeHead(500).end('<html>')).listen(
    rubbishPath,
  )
  await once(rubbish, 'listening')
  t.after(() => rubbish.close())
  assert.equal((await failureOf(callControl({ path: rubbishPath, route: '/x' }))).code, 'CONTROL_BROKEN')
})

test('close waits for the call in flight, removes the socket and may be called again', async t => {
  const entered = Promise.withResolvers<void>()
  const release = Promise.withResolvers<string>()
  const { path, control } = await serve(t, {
    'GET /x': () => {
      entered.resolve()
      return release.promise
    },
  })
  const call = callControl({ path, route: '/x' })
  await entered.promise
  const closing = control.close()
  release.resolve('done')
  assert.equal(await call, 'done')
  await closing
  await control.close()
  assert.equal(existsSync(path), false)
  assert.equal(await isListening(path), false)
})

async function staleSocket(t: TestContext): Promise<string> {
  const path = socketPath(t)
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  await once(spawn(process.execPath, ['-e', script], { stdio: 'inherit' }), 'exit')
  assert.ok(existsSync(path))
  return path
}
