import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { hashServerSeed } from '#game/draw.ts'
import { loadSeedKeys, newSeedKey, newServerSeed } from '#game/seeds.ts'
import { httpSlice } from '#http/config.ts'
import { createHttp } from '#http/http.ts'
import { Doors } from '#identity/doors.ts'
import { identityMetrics } from '#identity/metrics.ts'
import { Operators } from '#identity/operators.ts'
import { type OpenedPlayer, Players } from '#identity/players.ts'
import { identityRoutes } from '#identity/routes.ts'
import { SessionListener } from '#identity/session-listener.ts'
import { type SessionNotices, Sessions } from '#identity/sessions.ts'
import { hashToken, newPlayerToken } from '#identity/tokens.ts'
import { type Clock, manualClock } from '#lib/clock.ts'
import { loadConfig } from '#lib/config.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { Database } from '#postgres/client/database.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import { withDatabase } from '#test/database.ts'

const key = newSeedKey()
const seedKeys = loadSeedKeys({ currentKid: 'k1', kids: ['k1'], read: () => key })
const seeds = {
  newSealedSeed() {
    const seed = newServerSeed()
    const hash = hashServerSeed(seed)
    return { hash, sealed: seedKeys.seal(seed, hash) }
  },
}

interface Server {
  sessions: Sessions
  players: Players
  operators: Operators
  app: Awaited<ReturnType<typeof createHttp>>['app']
  /** hearing, deaf and ended, each after the sessions have seen it. */
  notices: EventEmitter
}

/** One server of several on a database, with the program's own parts and no port. */
async function openServer(
  t: TestContext,
  target: DatabaseTarget,
  o: { publicUrl?: string; clock?: Clock } = {},
): Promise<Server> {
  const home = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-identity-')))
  const registry = createMetrics()
  const metrics = identityMetrics(registry)
  const database = new Database({ target, applicationName: 'test', log: silentLog, maxConnections: 2 })
  const notices = new EventEmitter()
  const listener = observed(
    new SessionListener({ target, applicationName: 'test listener', log: silentLog }),
    notices,
  )
  const config = {
    sessionCacheSeconds: 30,
    sessionCacheEntries: 100,
    sessionHours: 24,
    operatorSessionHours: 12,
  }
  const sessions = new Sessions({ database, listener, config, metrics, ...(o.clock && { clock: o.clock }) })
  const players = new Players({ database, seeds, config, metrics })
  const operators = new Operators({ home, audit: { record() {} }, config })
  const publicUrl = o.publicUrl === undefined ? {} : { publicUrl: o.publicUrl }
  const doors = new Doors({ sessions, operators, ...publicUrl })
  const http = loadConfig([httpSlice], { env: {} }).values.http
  const { app } = await createHttp({
    config: { ...http, ...publicUrl },
    log: silentLog,
    metrics: registry,
    ready: () => ({ ready: true, reasons: [] }),
    version: '0.0.0',
  })
  await app.register(identityRoutes, { sessions, players, operators, doors, config })
  sessions.start()
  t.after(async () => {
    await app.close()
    await sessions.close()
    await database.close()
    operators.close()
    rmSync(home.root, { recursive: true, force: true })
  })
  return { sessions, players, operators, app, notices }
}

function observed(listener: SessionListener, notices: EventEmitter) {
  return {
    close: () => listener.close(),
    start: (to: SessionNotices) =>
      listener.start({
        hearing: () => {
          to.hearing()
          notices.emit('hearing')
        },
        deaf: () => {
          to.deaf()
          notices.emit('deaf')
        },
        ended: hash => {
          to.ended(hash)
          notices.emit('ended', hash)
        },
      }),
  }
}

async function openHearing(
  t: TestContext,
  target: DatabaseTarget,
  o: { clock?: Clock } = {},
): Promise<Server> {
  const server = await openServer(t, target, o)
  await once(server.notices, 'hearing')
  return server
}

function nowhere(target: DatabaseTarget): DatabaseTarget {
  return { ...target, host: '/nonexistent' }
}

test('a demo player signs in, is known by token and by cookie, and signs out', async t => {
  const database = await withDatabase(t)
  const { app, notices } = await openServer(t, database.target('app'))
  await once(notices, 'hearing')
  const opened = await app.inject({ method: 'POST', url: '/api/auth/demo' })
  assert.equal(opened.statusCode, 200)
  const { token, player } = opened.json()
  assert.deepEqual(player, { id: player.id, kind: 'demo', balance: '1000000' })
  assert.equal(
    opened.headers['set-cookie'],
    `moonyetis_session=${token}; Max-Age=86400; Path=/; HttpOnly; SameSite=Strict`,
  )

  const cookie = `moonyetis_session=${token}`
  for (const headers of [{ authorization: `Bearer ${token}` }, { cookie }]) {
    const session = await app.inject({ url: '/api/auth/session', headers })
    assert.equal(session.statusCode, 200)
    assert.deepEqual(session.json().player, player)
    const hoursLeft = (Date.parse(session.json().expiresAt) - Date.now()) / 3_600_000
    assert.ok(hoursLeft > 23.9 && hoursLeft <= 24, String(hoursLeft))
  }

  const out = await app.inject({ method: 'POST', url: '/api/auth/logout', headers: { cookie } })
  assert.equal(out.statusCode, 204)
  assert.equal(out.body, '')
  assert.match(String(out.headers['set-cookie']), /moonyetis_session=; Max-Age=0;/)
  const after = await app.inject({ url: '/api/auth/session', headers: { cookie } })
  assert.equal(after.statusCode, 401)
  assert.equal(after.json().code, 'UNAUTHENTICATED')
  const again = await app.inject({ method: 'POST', url: '/api/auth/logout', headers: { cookie } })
  assert.equal(again.statusCode, 204)
})

test('only the hash of a token is stored, and the application can neither read nor make sessions', async t => {
  const database = await withDatabase(t)
  const { players } = await openServer(t, database.target('app'))
  const { token, accountId } = await players.openDemoPlayer()
  const rows = await database.query<{ hash: string }>(
    "SELECT encode(token_hash, 'hex') AS hash FROM sessions",
  )
  assert.deepEqual(rows, [{ hash: hashToken(token) }])
  const pairs = await database.query('SELECT state FROM seed_pairs WHERE account_id = $1 ORDER BY state', [
    accountId,
  ])
  assert.deepEqual(pairs, [{ state: 'active' }, { state: 'next' }])

  const app = new Database({ target: database.target('app'), applicationName: 'test', log: silentLog })
  t.after(() => app.close())
  const forbidden = [
    'SELECT * FROM sessions',
    'DELETE FROM sessions',
    `SELECT open_session('\\x00', 1, '1 day')`,
  ]
  for (const sql of forbidden) await assert.rejects(app.query(sql), { code: '42501' })
})

test('a session that ends on one server ends on the others at once', async t => {
  const database = await withDatabase(t)
  const here = await openHearing(t, database.target('app'))
  const there = await openHearing(t, database.target('app'))
  const { token, playerId } = await here.players.openDemoPlayer()
  assert.equal((await there.sessions.authenticate(token))?.playerId, playerId)
  assert.equal(there.sessions.peek(token)?.playerId, playerId)
  const pushed = once(there.notices, 'ended')
  assert.equal(await here.sessions.end(token), true)
  assert.equal(here.sessions.peek(token), undefined)
  await pushed
  assert.equal(there.sessions.peek(token), undefined)
  assert.equal(await there.sessions.authenticate(token), undefined)
})

test('while the listener is cut off each session is checked, and believed again once it is back', async t => {
  const database = await withDatabase(t)
  const { sessions, players, notices } = await openHearing(t, database.target('app'))
  const { token, playerId } = await players.openDemoPlayer()
  await sessions.authenticate(token)
  assert.ok(sessions.peek(token))
  const [deaf, back] = [once(notices, 'deaf'), once(notices, 'hearing')]
  await database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test listener'",
  )
  await deaf
  assert.equal(sessions.peek(token), undefined)
  assert.equal((await sessions.authenticate(token))?.playerId, playerId)
  await back
  await sessions.authenticate(token)
  assert.ok(sessions.peek(token))
})

test('the database decides when a session has ended', async t => {
  const database = await withDatabase(t)
  const { sessions, players } = await openHearing(t, database.target('app'))
  const { token } = await players.openDemoPlayer()
  await database.query("UPDATE sessions SET expires_at = now() - interval '1 millisecond'")
  assert.equal(await sessions.authenticate(token), undefined)
  assert.equal(await sessions.deleteExpired(), 1n)
  assert.equal(await sessions.deleteExpired(), 0n)
})

test('a server whose clock is years off believes the same sessions as the others', async t => {
  const database = await withDatabase(t)
  const { players } = await openHearing(t, database.target('app'))
  const { token, playerId } = await players.openDemoPlayer()
  for (const wrong of ['1999-01-01T00:00:00Z', '2099-01-01T00:00:00Z']) {
    const clock = manualClock(wrong)
    const { sessions } = await openHearing(t, database.target('app'), { clock })
    assert.equal((await sessions.authenticate(token))?.playerId, playerId, wrong)
    // Believed by monotonic time: what the wall clock does meanwhile changes nothing.
    assert.ok(sessions.peek(token), wrong)
  }
  await database.query("UPDATE sessions SET expires_at = now() - interval '1 millisecond'")
  const { sessions } = await openHearing(t, database.target('app'), {
    clock: manualClock('1999-01-01T00:00:00Z'),
  })
  assert.equal(await sessions.authenticate(token), undefined)
})

test('while the database is away players get 503 and keep their cookies; operators still sign in', async t => {
  const database = await withDatabase(t)
  const { app, operators } = await openServer(t, nowhere(database.target('app')))
  const cookie = `moonyetis_session=${newPlayerToken()}`
  const requests = [
    { method: 'GET', url: '/api/auth/session', headers: { cookie } },
    { method: 'POST', url: '/api/auth/logout', headers: { cookie } },
    { method: 'POST', url: '/api/auth/demo' },
  ] as const
  for (const request of requests) {
    const answer = await app.inject(request)
    assert.equal(answer.statusCode, 503, request.url)
    assert.equal(answer.json().code, 'DATABASE_UNAVAILABLE')
    assert.equal(answer.headers['retry-after'], '1')
    assert.equal(answer.headers['set-cookie'], undefined)
  }

  const { id, token } = operators.createToken({ role: 'operator', label: 'Ana', actor: 'test' })
  const signedIn = await app.inject({ method: 'POST', url: '/api/auth/operator', payload: { token } })
  assert.equal(signedIn.statusCode, 200)
  assert.deepEqual(signedIn.json().operator, { id, role: 'operator', label: 'Ana' })
  const [set = ''] = [signedIn.headers['set-cookie']].flat()
  assert.match(set, /^moonyetis_operator=mys_[^;]+; Max-Age=43200; Path=\/; HttpOnly; SameSite=Strict$/)
  const session = /mys_[^;]+/.exec(set)?.[0] ?? ''
  assert.equal(operators.authenticate(session)?.id, id)
  const out = await app.inject({
    method: 'POST',
    url: '/api/auth/logout',
    headers: { cookie: `moonyetis_operator=${session}` },
  })
  assert.equal(out.statusCode, 204)
  assert.equal(operators.authenticate(session), undefined)
})

test('on mainnet there are no demo players', async t => {
  const database = await withDatabase(t, 'mainnet')
  const { app } = await openServer(t, database.target('app'))
  const answer = await app.inject({ method: 'POST', url: '/api/auth/demo' })
  assert.equal(answer.statusCode, 403)
  assert.equal(answer.json().code, 'IDENTITY_DEMO_OFF')
  const counts = await database.query(
    'SELECT (SELECT count(*) FROM players) AS players, (SELECT count(*) FROM sessions) AS sessions',
  )
  assert.deepEqual(counts, [{ players: 0n, sessions: 0n }])
})

test('credentials that make no sense are 401 with how to sign in, and operator tokens are no players', async t => {
  const database = await withDatabase(t)
  const { app, operators, players } = await openServer(t, database.target('app'))
  const { token } = operators.createToken({ role: 'admin', actor: 'test' })
  const texts = [
    '',
    'Bearer',
    'Basic YTpi',
    'Bearer a b',
    'Bearer \u00ff',
    `Bearer ${token}`,
    `Bearer ${'x'.repeat(5000)}`,
  ]
  for (const authorization of texts) {
    const answer = await app.inject({ url: '/api/auth/session', headers: { authorization } })
    assert.equal(answer.statusCode, 401, authorization)
    assert.match(String(answer.headers['content-type']), /^application\/problem\+json/)
    assert.equal(answer.headers['www-authenticate'], 'Bearer')
  }
  const player = await players.openDemoPlayer()
  for (const payload of [{ token: player.token }, { token: `${token}x` }, { token: 'x' }]) {
    const answer = await app.inject({ method: 'POST', url: '/api/auth/operator', payload })
    assert.equal(answer.statusCode, 401)
    assert.equal(answer.json().code, 'IDENTITY_TOKEN_REFUSED')
  }
  for (const payload of [{}, { token: 7 }, { token: 'x'.repeat(201) }, { token, role: 'admin' }]) {
    const answer = await app.inject({ method: 'POST', url: '/api/auth/operator', payload })
    assert.equal(answer.statusCode, 400)
    assert.ok(answer.json().errors.length > 0)
  }
})

test('another site can neither sign anybody in nor out', async t => {
  const database = await withDatabase(t)
  const { app, players } = await openServer(t, database.target('app'))
  const { token }: OpenedPlayer = await players.openDemoPlayer()
  for (const url of ['/api/auth/demo', '/api/auth/logout', '/api/auth/operator']) {
    const headers = { 'sec-fetch-site': 'cross-site', authorization: `Bearer ${token}` }
    const answer = await app.inject({ method: 'POST', url, headers })
    assert.equal(answer.statusCode, 403)
    assert.equal(answer.json().code, 'IDENTITY_CROSS_SITE')
    assert.equal(answer.headers['set-cookie'], undefined)
  }
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  const answer = await app.inject({
    method: 'POST',
    url: '/api/auth/operator',
    headers: form,
    payload: 'token=x',
  })
  assert.equal(answer.statusCode, 415)
})

test('behind https cookies are Secure and bound to the host, whatever the Host header says', async t => {
  const database = await withDatabase(t)
  const { app } = await openServer(t, database.target('app'), { publicUrl: 'https://play.example' })
  const opened = await app.inject({ method: 'POST', url: '/api/auth/demo', headers: { host: '127.0.0.1' } })
  assert.match(
    String(opened.headers['set-cookie']),
    /^__Host-moonyetis_session=myp_[^;]+; Max-Age=86400; Path=\/; HttpOnly; Secure; SameSite=Strict$/,
  )
})

test('a believed session costs no query', async t => {
  const database = await withDatabase(t)
  const { sessions, players } = await openHearing(t, database.target('app'))
  const { token } = await players.openDemoPlayer()
  await sessions.authenticate(token)
  await database.query('TRUNCATE sessions')
  assert.ok(sessions.peek(token))
})
