import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { silentLog } from '#lib/log.ts'
import { Channel, type ChannelOptions } from '#postgres/client/channel.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'
import { openProxy } from '#test/proxy.ts'
import { until } from '#test/until.ts'

let database: TestDatabase
before(async () => {
  database = await openDatabase()
  await database.query('CREATE TABLE marks (mark text PRIMARY KEY CHECK (mark <> $$bad$$))')
  await database.query('GRANT SELECT, INSERT ON marks TO moonyetis_app')
})
after(() => database.close())

const unknown = { code: 'DATABASE_OUTCOME_UNKNOWN' }
const unavailable = { code: 'DATABASE_UNAVAILABLE' }
const insert = (mark: string) => ({ text: 'INSERT INTO marks VALUES ($1)', values: [mark] })

function openChannel(
  t: { after(work: () => Promise<void>): void },
  o: Partial<ChannelOptions> = {},
): Channel {
  const target = database.target('app')
  const channel = new Channel({ target, applicationName: 'test channel', log: silentLog, ...o })
  t.after(() => channel.close())
  return channel
}

async function marks(): Promise<string[]> {
  const rows = await database.query<{ mark: string }>('SELECT mark FROM marks ORDER BY mark')
  return rows.map(row => row.mark)
}

async function pidOf(channel: Channel): Promise<number> {
  return (await channel.query({ text: 'SELECT pg_backend_pid() AS pid' })).rows[0].pid
}

test('an error of the statement keeps its SQLSTATE, and the connection goes on', async t => {
  const channel = openChannel(t)
  const pid = await pidOf(channel)
  await assert.rejects(channel.query(insert('bad')), { code: '23514' })
  await assert.rejects(channel.query({ text: 'SELECT 1/0' }), { code: '22012' })
  assert.equal(await pidOf(channel), pid)
  assert.ok(!(await marks()).includes('bad'))
})

test('a backend that is ended in the middle of a statement leaves the outcome unknown', async t => {
  const channel = openChannel(t)
  const pid = await pidOf(channel)
  const asleep = assert.rejects(channel.query({ text: 'SELECT pg_sleep(60)' }), unknown)
  await untilActive(pid)
  await database.query('SELECT pg_terminate_backend($1)', [pid])
  await asleep
  assert.notEqual(await pidOf(channel), pid)
})

for (const [mishap, stored] of [
  ['lost', false],
  ['cut', true],
  ['unanswered', true],
] as const) {
  test(`a connection ${mishap} around a statement is an unknown outcome, whatever came of it`, async t => {
    const proxy = await openProxy(t, database.target('app'))
    const channel = openChannel(t, { target: proxy.target })
    await channel.connect()
    proxy.befall(mishap, /INSERT/)
    await assert.rejects(channel.query(insert(mishap)), unknown)
    const { rows } = await channel.query({ text: 'SELECT FROM marks WHERE mark = $1', values: [mishap] })
    assert.equal(rows.length, stored ? 1 : 0)
  })
}

test('silence after a statement ends in an unknown outcome at the deadline', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const channel = openChannel(t, { target: proxy.target, answerTimeoutMs: 300 })
  await channel.connect()
  proxy.befall('silence', /INSERT/)
  await assert.rejects(channel.query(insert('silence')), unknown)
  assert.equal((await channel.query({ text: 'SELECT 1' })).rows.length, 1)
})

test('no statement runs before the lost backend is gone, even one that still works', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const channel = openChannel(t, { target: proxy.target, answerTimeoutMs: 300 })
  const pid = await pidOf(channel)
  // The backend is at work, and does not notice that its client is no more.
  proxy.befall('silence', /slow/)
  const slow = `WITH slow AS MATERIALIZED (SELECT pg_sleep(30))
    INSERT INTO marks SELECT 'slow' FROM slow`
  await assert.rejects(channel.query({ text: slow }), unknown)
  const { rows } = await channel.query({
    text: 'SELECT count(*)::int AS alive FROM pg_stat_activity WHERE pid = $1',
    values: [pid],
  })
  assert.deepEqual(rows, [{ alive: 0 }])
  assert.ok(!(await marks()).includes('slow'))
})

test('nothing is sent to a server that refuses connections, and the caller hears so', async t => {
  const channel = openChannel(t, { target: { ...database.target('app'), host: '127.0.0.1', port: 1 } })
  await assert.rejects(channel.query({ text: 'SELECT 1' }), unavailable)
})

test('a server that accepts and then says nothing is given up at the deadline', async t => {
  const proxy = await openProxy(t, database.target('app'))
  proxy.frozen = true
  const channel = openChannel(t, { target: proxy.target, connectTimeoutMs: 300 })
  await assert.rejects(channel.query({ text: 'SELECT 1' }), unavailable)
  proxy.frozen = false
  assert.equal((await channel.query({ text: 'SELECT 1' })).rows.length, 1)
})

test('a server that falls silent right after the login is given up at the deadline', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const channel = openChannel(t, { target: proxy.target, connectTimeoutMs: 300 })
  proxy.befall('silence', /pg_backend_pid/)
  await assert.rejects(channel.query({ text: 'SELECT 1' }), unavailable)
  assert.equal((await channel.query({ text: 'SELECT 1' })).rows.length, 1)
})

test('callers that come together share one connection and go one after the other', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const channel = openChannel(t, { target: proxy.target })
  const pids = await Promise.all(Array.from({ length: 20 }, () => pidOf(channel)))
  assert.equal(new Set(pids).size, 1)
  assert.equal(proxy.accepted, 1)
})

test('an unknown outcome is told to the caller whose statement it was, not to those who wait', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const channel = openChannel(t, { target: proxy.target })
  await channel.connect()
  proxy.befall('unanswered', /INSERT/)
  const ends = await Promise.allSettled([channel.query(insert('first')), pidOf(channel), pidOf(channel)])
  assert.deepEqual(
    ends.map(end => end.status),
    ['rejected', 'fulfilled', 'fulfilled'],
  )
})

test('more waiting callers than the bound are refused before anything is sent', async t => {
  const channel = openChannel(t, { mostWaiting: 2 })
  await channel.connect()
  const ends = await Promise.allSettled(Array.from({ length: 5 }, () => pidOf(channel)))
  assert.deepEqual(
    ends.map(end => end.status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'],
  )
  await assert.rejects(Promise.all([1, 2, 3, 4, 5].map(() => pidOf(channel))), unavailable)
})

test('a commit whose wait for the standby was cancelled is not acknowledged, and is read back once', async t => {
  const channel = openChannel(t)
  const pid = await pidOf(channel)
  await setStandbys('missing')
  t.after(() => setStandbys(''))
  const waiting = assert.rejects(channel.query(insert('cancelled')), unknown)
  await untilWaiting(pid)
  await database.query('SELECT pg_cancel_backend($1)', [pid])
  await waiting
  await setStandbys('')
  const { rows } = await channel.query({ text: `SELECT FROM marks WHERE mark = 'cancelled'` })
  assert.equal(rows.length, 1)
})

test('a backend ended in the wait for the standby leaves the outcome unknown', async t => {
  const channel = openChannel(t)
  const pid = await pidOf(channel)
  await setStandbys('missing')
  t.after(() => setStandbys(''))
  const waiting = assert.rejects(channel.query(insert('ended')), unknown)
  await untilWaiting(pid)
  await database.query('SELECT pg_terminate_backend($1)', [pid])
  await waiting
})

test('a closed channel takes nothing, and leaves no connection behind', async t => {
  const channel = openChannel(t, { applicationName: 'closing channel' })
  const opening = channel.connect().catch(() => undefined)
  await channel.close()
  await opening
  await assert.rejects(channel.query({ text: 'SELECT 1' }), unavailable)
  await until(async () => {
    const [row] = await database.query<{ open: bigint }>(
      `SELECT count(*) AS open FROM pg_stat_activity WHERE application_name = 'closing channel'`,
    )
    return row?.open === 0n
  })
})

async function setStandbys(names: string): Promise<void> {
  await database.query(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`)
  await database.query('SELECT pg_reload_conf()')
  // The checkpointer tells the backends, a moment after the reload.
  await until(async () => {
    const [row] = await database.query<{ names: string }>('SHOW synchronous_standby_names')
    return (row as unknown as { synchronous_standby_names: string }).synchronous_standby_names === names
  })
}

async function untilActive(pid: number): Promise<void> {
  await until(async () => {
    const [row] = await database.query(`SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'`, [
      pid,
    ])
    return row !== undefined
  })
}

async function untilWaiting(pid: number): Promise<void> {
  await until(async () => {
    const [row] = await database.query(
      `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'`,
      [pid],
    )
    return row !== undefined
  })
}
