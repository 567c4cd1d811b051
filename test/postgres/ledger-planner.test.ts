import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { readStoredSpins } from '#game/outcomes.ts'
import type { Seat } from '#game/seats.ts'
import { type Send, settleMany, settleOne } from '#game/settlement.ts'
import type { SpinJob } from '#game/spin-job.ts'
import { exactTypes } from '#postgres/client/target.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'

// Plans of the money functions, as PostgreSQL makes them inside: an unnest in a generic plan is taken for ten rows, and
// a plan that was made on an empty table lives on in a session for weeks.

const accounts = 60_000
let database: TestDatabase
let client: pg.Client
const plans: string[] = []
before(async () => {
  database = await openDatabase()
  client = new pg.Client({ ...database.target('superuser'), types: exactTypes })
  client.on('notice', notice => {
    if (notice.message?.startsWith('duration:')) plans.push(notice.message)
  })
  await client.connect()
  await client.query(`LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_level = notice;
    SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on; SET auto_explain.log_timing = off`)
})
after(async () => {
  await client.end()
  await database.close()
})

const send: Send = query => client.query(query)

test('settlement and read-back go by index on an empty, a grown, a never analyzed and an analyzed database', async () => {
  await fill(1000, 1)
  await noTableIsScanned('on a new database')
  // The same session, with the plans it made when the tables were small.
  await fill(1000 + 1, accounts - 1)
  await noTableIsScanned('with plans made before the tables grew')
  await client.query('DISCARD PLANS')
  await noTableIsScanned('on tables that were never analyzed')
  await database.query('ANALYZE')
  await client.query('DISCARD PLANS')
  await noTableIsScanned('on analyzed tables')
})

test('a batch of 256 spins costs in proportion to one of 32', async () => {
  await client.query('SET auto_explain.log_min_duration = -1')
  const [small, large] = [await leastMs(32), await leastMs(256)]
  assert.ok(large < 16 * small, `256 spins took ${large.toFixed(2)} ms, 32 took ${small.toFixed(2)} ms`)
})

let offset = 0
const nonces = new Map<bigint, number>()

/** Spins of as many accounts, spread over the table. */
function newJobs(count: number): SpinJob[] {
  const ids = Array.from({ length: count }, (_, index) => 1000n + BigInt((offset + index * 97) % accounts))
  offset += count * 97
  return ids.sort((a, b) => (a < b ? -1 : 1)).map(newJob)
}

function newJob(accountId: bigint): SpinJob {
  const nonce = nonces.get(accountId) ?? 0
  nonces.set(accountId, nonce + 1)
  return {
    seat: { accountId } as Seat,
    seedPairId: accountId,
    nonce,
    key: randomBytes(16),
    stakePerLine: 1,
    lines: 1,
    stake: 1n,
    stops: 0,
    payout: 2n,
  } as SpinJob
}

async function noTableIsScanned(when: string): Promise<void> {
  plans.length = 0
  const batch = when === 'on a new database' ? [newJob(1000n)] : newJobs(40)
  const lone = when === 'on a new database' ? newJob(1000n) : newJob(1000n + BigInt(accounts - 1))
  const groups = batch.map(job => [job])
  assert.ok((await settleMany(send, groups, 1)).every(outcome => outcome.kind === 'settled'))
  assert.equal((await settleOne(send, lone, 1)).kind, 'settled')
  assert.equal((await readStoredSpins(send, [...batch, lone])).size, batch.length + 1)
  // The uncommon ways: a used key, a stale nonce, an account that is held by nobody.
  const replays = await settleMany(
    send,
    groups.map(([job]) => [{ ...(job as SpinJob), nonce: (job as SpinJob).nonce + 1 }]),
    1,
  )
  assert.ok(replays.every(outcome => outcome.kind === 'refused' && outcome.replays.length === 1))
  const stale = await settleMany(send, groups, 1)
  assert.ok(stale.every(outcome => outcome.kind === 'refused'))
  assert.ok(plans.length >= 12, `${plans.length} plans were seen`)
  for (const plan of plans) {
    assert.doesNotMatch(plan, /Seq Scan on|Hash Join|Merge Join/, `${when}:\n${plan}`)
    // Nothing is read to be thrown away: each index leads to its rows.
    for (const [, removed] of plan.matchAll(/Rows Removed by (?:Join )?Filter: (\d+)/g))
      assert.ok(Number(removed) <= 2 * batch.length, `${when}:\n${plan}`)
  }
}

async function leastMs(count: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let turn = 0; turn < 8; turn++) {
    const jobs = newJobs(count)
    const startedMs = performance.now()
    await settleMany(
      send,
      jobs.map(job => [job]),
      1,
    )
    least = Math.min(least, performance.now() - startedMs)
  }
  return least
}

/** Accounts with a pair of the same number, one key and one round each, as after some play. */
async function fill(first: number, count: number): Promise<void> {
  await database.query(`SET session_replication_role = replica;
    ALTER TABLE accounts SET (autovacuum_enabled = off); ALTER TABLE seed_pairs SET (autovacuum_enabled = off);
    ALTER TABLE rounds_0 SET (autovacuum_enabled = off); ALTER TABLE idempotency_3 SET (autovacuum_enabled = off);
    INSERT INTO players (id, kind) OVERRIDING SYSTEM VALUE
      SELECT n, 'demo' FROM generate_series(${first}, ${first + count - 1}) AS n;
    INSERT INTO accounts (id, player_id, balance, seed_pair_id)
      SELECT n, n, 1000, n FROM generate_series(${first}, ${first + count - 1}) AS n;
    INSERT INTO seed_pairs (id, account_id, state, server_seed_hash, sealed_seed, client_seed) OVERRIDING SYSTEM VALUE
      SELECT n, n, 'active', md5(n::text) || md5('x' || n), 'x', 'x'
      FROM generate_series(${first}, ${first + count - 1}) AS n;
    INSERT INTO idempotency (account_id, route, key, request_hash, movement_id)
      SELECT n, 1, md5('k' || n)::uuid, 17, n + 1000000 FROM generate_series(${first}, ${first + count - 1}) AS n;
    INSERT INTO rounds (id, account_id, seed_pair_id, nonce, payout, balance_after, stake_per_line, stops, lines, game_version)
      SELECT n + 1000000, n, n, 0, 0, 1000, 1, 0, 1, 1 FROM generate_series(${first}, ${first + count - 1}) AS n`)
}
