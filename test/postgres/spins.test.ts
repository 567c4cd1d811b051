import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import pg from 'pg'
import { drawStops } from '#game/draw.ts'
import { evaluate } from '#game/evaluate.ts'
import { Leaderboard } from '#game/leaderboard.ts'
import type { SpinResult } from '#game/spin-job.ts'
import { ArrayWriter, bigintArray, parseBigints, uuidArray } from '#ledger/arrays.ts'
import { systemClock } from '#lib/clock.ts'
import { exactTypes } from '#postgres/client/target.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'
import { newKey, openAccount, openTable, seedWhere } from '#test/play.ts'
import { openProxy } from '#test/proxy.ts'
import { until } from '#test/until.ts'

let database: TestDatabase
before(async () => {
  database = await openDatabase()
})
after(() => database.close())

const bet = { stakePerLine: 1, lines: 1 }

interface Round {
  id: bigint
  nonce: bigint
  payout: bigint
  balance_after: bigint
}

async function roundsOf(accountId: bigint): Promise<Round[]> {
  return database.query<Round & pg.QueryResultRow>(
    'SELECT id, nonce, payout, balance_after FROM rounds WHERE account_id = $1 ORDER BY id',
    [accountId],
  )
}

function settled(result: SpinResult | undefined): { body: string; replayed: boolean } {
  assert.equal(result?.kind, 'settled')
  return result as { kind: 'settled'; body: string; replayed: boolean }
}

/** The code of the failure that a promise ended in. */
function reasonOf(end: PromiseSettledResult<unknown> | undefined): string | undefined {
  return end?.status === 'rejected' ? end.reason.code : undefined
}

/** A connection of another session, for what another server does at the same moment. */
async function openSession(
  t: { after(work: () => Promise<void>): void },
  its = database,
): Promise<pg.Client> {
  const client = new pg.Client({ ...its.target('superuser'), types: exactTypes })
  client.on('error', () => {})
  await client.connect()
  t.after(() => client.end())
  return client
}

/** True once a session waits for a lock that another holds. */
function someoneWaits(): Promise<boolean> {
  return database
    .query(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
    .then(rows => rows.length > 0)
}

for (const neighbours of [0, 3]) {
  test(`a spin is not refused for want of chips that a spin still committing brings (${neighbours} beside it)`, async t => {
    const table = await openTable(t, database)
    const serverSeed = seedWhere((payout, nonce) => (nonce === 0 ? payout >= 5 : true), 2)
    const accountId = await openAccount(database, { balance: 1n, serverSeed })
    const others = await Promise.all(Array.from({ length: neighbours }, () => openAccount(database)))
    // A server that was killed left its backend in the commit: a win, and under our key the spin that it pays for.
    const zombie = await openSession(t)
    const key = newKey()
    await zombie.query('BEGIN')
    await settleByHand(zombie, { accountId, serverSeed, key: newKey(), nonce: 0, stake: 1 })
    await settleByHand(zombie, { accountId, serverSeed, key, nonce: 1, stake: 3 })
    const spin = (id: bigint, stakePerLine: number, itsKey: Buffer) =>
      table.spins.spin({ accountId: id, key: itsKey, stakePerLine, lines: 1 })
    const ours = spin(accountId, 3, key)
    const theirs = others.map(id => spin(id, 1, newKey()))
    const early = await Promise.race([
      ours.then(() => 'answered'),
      until(someoneWaits).then(() => 'waits'),
    ]).catch(() => 'retries')
    assert.notEqual(early, 'answered')
    await zombie.query('COMMIT')
    const result = await ours.catch(async error => {
      // Told to come again is honest too; then the same key gives the stored round.
      assert.equal(error.code, 'LEDGER_BUSY')
      return spin(accountId, 3, key)
    })
    assert.equal(settled(result).replayed, true)
    assert.equal((await roundsOf(accountId)).length, 2)
    await Promise.all(theirs)
  })
}

test('a player without chips holds nobody up, however many spins they send at once', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const table = await openTable(t, database, { channelTarget: proxy.target, spins: { maxBatch: 64 } })
  const [poor, rich] = [await openAccount(database, { balance: 0n }), await openAccount(database)]
  await table.spins.spin({ accountId: rich, key: newKey(), ...bet })
  let statements = 0
  proxy.seen = statement => {
    if (/settle_spin/.test(statement)) statements++
  }
  const refused = Array.from({ length: 640 }, () =>
    table.spins.spin({ accountId: poor, key: newKey(), ...bet }),
  )
  const last = table.spins.spin({ accountId: rich, key: newKey(), ...bet })
  settled(await last)
  assert.ok((await Promise.all(refused)).every(result => result.kind === 'short'))
  assert.ok(statements < 40, `${statements} statements for 641 spins`)
})

test('spins without chips are refused in one statement, but a used key among them is still answered', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database, {
    balance: 1n,
    serverSeed: seedWhere(payout => payout === 0, 1),
  })
  const key = newKey()
  const first = settled(await table.spins.spin({ accountId, key, ...bet }))
  const results = await Promise.all(
    [newKey(), key, newKey()].map(one => table.spins.spin({ accountId, key: one, ...bet })),
  )
  assert.deepEqual(
    results.map(result => result.kind),
    ['short', 'settled', 'short'],
  )
  assert.deepEqual(settled(results[1]), { kind: 'settled', body: first.body, replayed: true })
})

test('a repeat whose connection dies says that it is one; a first spin whose answer is lost says that it is not', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const table = await openTable(t, database, { channelTarget: proxy.target })
  const accountId = await openAccount(database)
  const key = newKey()
  proxy.befall('unanswered', /settle_spin/)
  const first = settled(await table.spins.spin({ accountId, key, ...bet }))
  assert.equal(first.replayed, false)
  proxy.befall('unanswered', /settle_spin/)
  assert.deepEqual(settled(await table.spins.spin({ accountId, key, ...bet })), { ...first, replayed: true })
})

test('an account that is not in the books fails alone', async t => {
  const table = await openTable(t, database)
  const gone = await openAccount(database)
  const accounts = await Promise.all([1, 2, 3].map(() => openAccount(database)))
  await table.seats.get(gone)
  // As after a restore to an earlier moment.
  await database.query(`BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM accounts WHERE id = ${gone};
    DELETE FROM seed_pairs WHERE account_id = ${gone}; COMMIT`)
  const spin = (accountId: bigint) => table.spins.spin({ accountId, key: newKey(), ...bet })
  const together = await Promise.allSettled([spin(gone), ...accounts.map(spin)])
  const unknown = { code: 'GAME_ACCOUNT_UNKNOWN' }
  assert.equal(reasonOf(together[0]), unknown.code)
  for (const one of together.slice(1)) {
    assert.equal(one.status, 'fulfilled')
    assert.equal(settled((one as PromiseFulfilledResult<SpinResult>).value).replayed, false)
  }
  await assert.rejects(spin(gone), unknown)
})

test('an account whose new seed cannot be opened fails alone', async t => {
  const table = await openTable(t, database)
  const [broken, ...others] = await Promise.all([1, 2, 3].map(() => openAccount(database)))
  const spin = (accountId: bigint) => table.spins.spin({ accountId, key: newKey(), ...bet })
  await Promise.all([broken as bigint, ...others].map(spin))
  await rotateUnreadably(broken as bigint)
  // The others lose their nonces to another server at the same moment, so all go again together.
  await Promise.all(others.map(id => playElsewhere(t, id)))
  const ends = await Promise.allSettled([broken as bigint, ...others].map(spin))
  assert.equal(reasonOf(ends[0]), 'GAME_SEED_UNREADABLE')
  assert.deepEqual(
    ends.slice(1).map(end => end.status),
    ['fulfilled', 'fulfilled'],
  )
})

async function playElsewhere(t: Parameters<typeof openTable>[0], accountId: bigint): Promise<void> {
  const other = await openTable(t, database)
  settled(await other.spins.spin({ accountId, key: newKey(), ...bet }))
}

/** The account moves on to a pair whose seed is sealed with a key that is not here. */
async function rotateUnreadably(accountId: bigint): Promise<void> {
  await database.query(
    `BEGIN; SET LOCAL session_replication_role = replica;
     UPDATE seed_pairs SET state = 'revealed', server_seed = repeat('0', 64), sealed_seed = NULL, rounds = 1,
       server_seed_hash = encode(sha256(convert_to(repeat('0', 64), 'UTF8')), 'hex')
       WHERE account_id = ${accountId} AND state = 'active';
     UPDATE seed_pairs SET state = 'active', client_seed = 'x', sealed_seed = 'nonsense'
       WHERE account_id = ${accountId} AND state = 'next';
     INSERT INTO seed_pairs (account_id, state, server_seed_hash, sealed_seed)
       VALUES (${accountId}, 'next', md5('${accountId}') || md5('x'), 'nonsense');
     UPDATE accounts SET next_nonce = 0, seed_pair_id =
       (SELECT id FROM seed_pairs WHERE account_id = ${accountId} AND state = 'active') WHERE id = ${accountId};
     COMMIT`,
  )
}

test('a seat dropped for want of room is not doubled while a spin holds it', async t => {
  const table = await openTable(t, database, { seatCache: 1 })
  const accounts = await Promise.all(Array.from({ length: 12 }, () => openAccount(database)))
  const spins = accounts.flatMap(accountId => [1, 2, 3].map(() => accountId))
  const ends = await Promise.all(
    spins.map(accountId => table.spins.spin({ accountId, key: newKey(), ...bet })),
  )
  for (const end of ends) settled(end)
  for (const accountId of accounts) {
    const seat = await table.seats.get(accountId)
    assert.equal(seat.pending, 0)
    assert.deepEqual(
      (await roundsOf(accountId)).map(round => round.nonce),
      [0n, 1n, 2n],
    )
  }
})

test('a rotation whose seat cannot be read again is still answered, as a first answer', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  await table.spins.spin({ accountId, key: newKey(), ...bet })
  t.mock.method(table.seats, 'refresh', async () => {
    throw new Error('the pool is gone')
  })
  const key = newKey()
  const rotated = await table.rotation.rotate({ accountId, key, clientSeed: 'mine' })
  assert.equal(rotated.replayed, false)
  assert.equal(JSON.parse(rotated.body).current.clientSeed, 'mine')
  t.mock.restoreAll()
  settled(await table.spins.spin({ accountId, key: newKey(), ...bet }))
})

test('a rotation waits for a server that is short of something, and for a lock, and is done once', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  let failures = 0
  const { query } = table.app
  t.mock.method(table.app, 'query', (...given: Parameters<typeof query>) => {
    const [text] = given
    const code = ['53100', '40P01', '25006'][failures]
    if (!/read_seat/.test(text) || code === undefined) return query.apply(table.app, given)
    failures++
    return database.query(`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '${code}'; END $$`)
  })
  const key = newKey()
  const rotated = await table.rotation.rotate({ accountId, key, clientSeed: 'mine' })
  assert.equal(failures, 3)
  assert.equal(rotated.replayed, false)
  assert.deepEqual(await table.rotation.rotate({ accountId, key, clientSeed: 'mine' }), {
    body: rotated.body,
    replayed: true,
  })
})

test('rotations of many players at once each take effect once', async t => {
  const table = await openTable(t, database)
  const accounts = await Promise.all(Array.from({ length: 8 }, () => openAccount(database)))
  const rotations = await Promise.all(
    accounts.map(accountId => table.rotation.rotate({ accountId, key: newKey(), clientSeed: 'together' })),
  )
  assert.equal(new Set(rotations.map(one => JSON.parse(one.body).revealed.serverSeed)).size, 8)
})

test('the roll-up waits a moment for settlements and then gives way to them', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  const leaderboard = new Leaderboard(table.app, systemClock)
  // A settlement that hangs in its commit holds the lock shared.
  const hanging = await openSession(t)
  await hanging.query('BEGIN; SELECT pg_advisory_xact_lock_shared(7236190)')
  const rolling = assert.rejects(leaderboard.rollUp(), { code: '55P03' })
  await until(someoneWaits)
  settled(await table.spins.spin({ accountId, key: newKey(), ...bet }))
  await rolling
  await hanging.query('COMMIT')
  await leaderboard.rollUp()
  const locks = await database.query(`SELECT FROM pg_locks WHERE locktype = 'advisory'`)
  assert.equal(locks.length, 0, 'the roll-up leaves no lock behind')
})

test('the leaderboard counts every round exactly once, also of spins that settle while it rolls up', async t => {
  const own = await openDatabase()
  t.after(() => own.close())
  const table = await openTable(t, own)
  const leaderboard = new Leaderboard(table.app, systemClock)
  await leaderboard.rollUp()
  const accounts = await Promise.all(Array.from({ length: 10 }, () => openAccount(own)))
  let playing = true
  const rolling = (async () => {
    while (playing) await leaderboard.rollUp()
  })()
  for (let turn = 0; turn < 10; turn++) {
    await Promise.all(
      accounts.map(accountId => table.spins.spin({ accountId, key: newKey(), stakePerLine: 2, lines: 3 })),
    )
  }
  playing = false
  await rolling
  await leaderboard.rollUp()
  const [sums] = await own.query(
    `SELECT (SELECT sum(rounds)::int FROM leaderboard_days) AS rounds,
            (SELECT sum(staked)::int FROM leaderboard_days) AS staked,
            (SELECT sum(won) FROM leaderboard_days) = (SELECT sum(payout) FROM rounds) AS won`,
  )
  assert.deepEqual(sums, { rounds: 100, staked: 600, won: true })
})

test('new partitions are made while somebody reads the tables for hours', async t => {
  const own = await openDatabase()
  t.after(() => own.close())
  const table = await openTable(t, own)
  const accountId = await openAccount(own)
  await table.spins.spin({ accountId, key: newKey(), ...bet })
  const reader = await openSession(t, own)
  await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM rounds, postings')
  await own.query(`SELECT setval('movement_ids', 299999999)`)
  const { made } = await table.app.one<{ made: number }>('SELECT ensure_partitions() AS made')
  assert.equal(made, 4)
  settled(await table.spins.spin({ accountId, key: newKey(), ...bet }))
  settled(await table.spins.spin({ accountId, key: newKey(), ...bet }))
  await assert.rejects(own.query('TRUNCATE rounds_3'), { code: 'MY001' })
  await assert.rejects(own.query('DELETE FROM rounds_3'), { code: 'MY001' })
  await assert.rejects(
    own.query(
      `INSERT INTO postings (movement_id, source, destination, amount, kind) VALUES (300000001, 1, 2, 0, 1)`,
    ),
    { code: '23514' },
  )
})

/** Settles one spin on a session of its own, drawn as the server draws. */
async function settleByHand(
  client: pg.Client,
  o: { accountId: bigint; serverSeed: string; key: Buffer; nonce: number; stake: number },
): Promise<void> {
  const stops = drawStops({ serverSeed: o.serverSeed, clientSeed: 'moonyetis', nonce: o.nonce })
  const payout = evaluate({ stops, lines: 1, stakePerLine: o.stake })
  const { rows } = await client.query(
    `SELECT s.status FROM accounts a,
       settle_spin(a.id, a.seed_pair_id, $2, $3, $4, 1, $5, $6, 1::smallint) AS s WHERE a.id = $1`,
    [o.accountId, o.nonce, o.key.toString('hex'), o.stake, stops, payout],
  )
  assert.deepEqual(rows, [{ status: 'settled' }])
}

/** A stake that the table of rounds forbids; the route's schema never lets it through. */
const poison = { stakePerLine: 1_000_001, lines: 1 }

test('a spin that the database refuses fails alone, wherever it stands in the batch', async t => {
  const table = await openTable(t, database)
  const accounts = await Promise.all(
    Array.from({ length: 5 }, () => openAccount(database, { balance: 5_000_000n })),
  )
  const spins = Array.from({ length: 23 }, (_, index) => ({
    accountId: accounts[index % 5] as bigint,
    key: newKey(),
    ...(index % 7 === 3 ? poison : bet),
  }))
  const ends = await Promise.allSettled(spins.map(spin => table.spins.spin(spin)))
  for (const [index, end] of ends.entries()) {
    if (index % 7 === 3) assert.equal(reasonOf(end), '23514')
    else assert.equal(settled((end as PromiseFulfilledResult<SpinResult>).value).replayed, false)
  }
  const stored = await Promise.all(accounts.map(roundsOf))
  assert.equal(stored.flat().length, 20)
  for (const rounds of stored)
    assert.deepEqual(
      rounds.map(round => round.nonce),
      rounds.map((_, nonce) => BigInt(nonce)),
    )
})

test('one spin more than may wait is told to come again, and nothing of it is left', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const table = await openTable(t, database, { channelTarget: proxy.target, spins: { maxQueue: 5 } })
  const accountId = await openAccount(database)
  const spin = () => table.spins.spin({ accountId, key: newKey(), ...bet })
  await spin()
  const gate = await openSession(t)
  await gate.query('BEGIN')
  await gate.query('SELECT FROM accounts WHERE id = $1 FOR UPDATE', [accountId])
  const inFlight = spin()
  await until(someoneWaits)
  const waiting = [1, 2, 3, 4, 5].map(spin)
  await until(() => table.spins.queued === 5)
  await assert.rejects(spin(), { code: 'LEDGER_BUSY', retryAfterSeconds: 1 })
  const seat = await table.seats.get(accountId)
  assert.equal(seat.pending, 6)
  await gate.query('COMMIT')
  for (const result of await Promise.all([inFlight, ...waiting])) settled(result)
  assert.equal((await roundsOf(accountId)).length, 7)
})

test('close answers everyone: what was taken is settled, what comes after is refused', async t => {
  const table = await openTable(t, database)
  const accounts = await Promise.all([1, 2, 3].map(() => openAccount(database)))
  await Promise.all(accounts.map(accountId => table.seats.get(accountId)))
  const taken = Array.from({ length: 60 }, (_, index) =>
    table.spins.spin({ accountId: accounts[index % 3] as bigint, key: newKey(), ...bet }),
  )
  const closed = table.spins.close()
  await assert.rejects(table.spins.spin({ accountId: accounts[0] as bigint, key: newKey(), ...bet }), {
    code: 'LEDGER_CLOSING',
  })
  await closed
  for (const result of await Promise.all(taken)) settled(result)
})

test('a server short of disk or memory answers 503 and settles again once it is not', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  const spins = [1, 2, 3].map(() => ({ accountId, key: newKey(), ...bet }))
  await database.query(`CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON postings FOR EACH STATEMENT EXECUTE FUNCTION full_disk()`)
  const refused = await Promise.allSettled(spins.map(spin => table.spins.spin(spin)))
  await database.query('DROP TRIGGER full_disk ON postings')
  assert.deepEqual(refused.map(reasonOf), Array(3).fill('DATABASE_UNAVAILABLE'))
  for (const spin of spins) assert.equal(settled(await table.spins.spin(spin)).replayed, false)
  assert.equal((await roundsOf(accountId)).length, 3)
})

test('a spin whose commit is in doubt is told so, whatever fails when it is looked for', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const table = await openTable(t, database, { channelTarget: proxy.target })
  const accountId = await openAccount(database)
  const key = newKey()
  proxy.befall('unanswered', /settle_spin/)
  await database.query('ALTER FUNCTION read_outcomes RENAME TO read_outcomes_away')
  const end = table.spins.spin({ accountId, key, ...bet })
  await assert.rejects(end, { code: 'DATABASE_OUTCOME_UNKNOWN', retryAfterSeconds: 5 })
  await database.query('ALTER FUNCTION read_outcomes_away RENAME TO read_outcomes')
  assert.equal(settled(await table.spins.spin({ accountId, key, ...bet })).replayed, true)
  assert.equal((await roundsOf(accountId)).length, 1)
})

test('a spin waits for a database that is away, as long as its patience lasts', async t => {
  const proxy = await openProxy(t, database.target('app'))
  const table = await openTable(t, database, { channelTarget: proxy.target, spins: { patienceMs: 400 } })
  const accountId = await openAccount(database)
  const spin = (key = newKey()) => table.spins.spin({ accountId, key, ...bet })
  await spin()
  proxy.misfortune = () => 'lost'
  const key = newKey()
  await assert.rejects(spin(key), { code: 'DATABASE_OUTCOME_UNKNOWN', retryAfterSeconds: 2 })
  const waiting = spin(key)
  await until(() => proxy.accepted > 5)
  proxy.misfortune = undefined
  assert.equal(settled(await waiting).replayed, false)
  assert.equal((await table.seats.get(accountId)).pending, 0)
})

test('a repeated key gives the same bytes, another payload is refused, a parallel one waits', async t => {
  const [table, other] = [await openTable(t, database), await openTable(t, database)]
  const accountId = await openAccount(database)
  const key = newKey()
  const spin = (its = table, stakePerLine = 1) => its.spins.spin({ accountId, key, stakePerLine, lines: 1 })
  const parallel = await Promise.all([spin(), spin(), spin(other), spin()])
  const bodies = parallel.map(result => settled(result).body)
  assert.equal(new Set(bodies).size, 1)
  assert.equal(parallel.filter(result => !settled(result).replayed).length, 1)
  await assert.rejects(spin(table, 2), { code: 'IDEMPOTENCY_KEY_REUSED' })
  await assert.rejects(spin(other, 2), { code: 'IDEMPOTENCY_KEY_REUSED' })
  const fresh = newKey()
  const [running, clash] = await Promise.allSettled([
    table.spins.spin({ accountId, key: fresh, ...bet }),
    table.spins.spin({ accountId, key: fresh, stakePerLine: 9, lines: 1 }),
  ])
  assert.equal(running?.status, 'fulfilled')
  assert.equal(reasonOf(clash), 'IDEMPOTENCY_KEY_REUSED')
  assert.equal((await roundsOf(accountId)).length, 2)
})

test('keys of seven days ago are forgotten, younger ones are not', async t => {
  const own = await openDatabase()
  t.after(() => own.close())
  const table = await openTable(t, own)
  const accountId = await openAccount(own)
  const [old, young] = [newKey(), newKey()]
  for (const key of [old, young]) await table.spins.spin({ accountId, key, ...bet })
  await own.query(
    `UPDATE idempotency SET created_at = now() - CASE key WHEN $1 THEN interval '7 days 1 second'
    ELSE interval '6 days 23 hours 59 minutes' END`,
    [old.toString('hex')],
  )
  const { gone } = await table.app.one<{ gone: bigint }>('SELECT expire_idempotency() AS gone')
  assert.equal(gone, 1n)
  assert.equal(settled(await table.spins.spin({ accountId, key: young, ...bet })).replayed, true)
  assert.equal(settled(await table.spins.spin({ accountId, key: old, ...bet })).replayed, false)
})

test('arrays reach PostgreSQL as they were written, whatever is in them', async t => {
  const client = await openSession(t)
  const rows = fc.record({
    bigints: fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: 1, maxLength: 50 }),
    integers: fc.array(fc.integer(), { minLength: 1, maxLength: 50 }),
    uuids: fc.array(fc.uint8Array({ minLength: 16, maxLength: 16 }), { minLength: 1, maxLength: 50 }),
  })
  await fc.assert(
    fc.asyncProperty(rows, async ({ bigints, integers, uuids }) => {
      const writer = new ArrayWriter('integer', integers.length)
      for (const integer of integers) writer.integer(integer)
      const answer = await client.query({
        text: 'SELECT $1::bigint[]::text AS bigints, $2::integer[] AS integers, $3::uuid[] AS uuids, array_lower($1::bigint[], 1) AS first',
        values: [bigintArray(bigints), writer.finish(), uuidArray(uuids)],
      })
      assert.deepEqual(parseBigints(answer.rows[0].bigints), bigints)
      assert.deepEqual(answer.rows[0].integers, integers)
      assert.deepEqual(
        answer.rows[0].uuids.map((uuid: string) => uuid.replaceAll('-', '')),
        uuids.map(uuid => Buffer.from(uuid).toString('hex')),
      )
      assert.equal(answer.rows[0].first, 1)
    }),
    { numRuns: 40 },
  )
})
