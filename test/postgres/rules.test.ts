import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { recompute } from '#game/recompute.ts'
import type { SpinResult } from '#game/spin-job.ts'
import { reconcile } from '#ledger/reconcile.ts'
import { exactTypes } from '#postgres/client/target.ts'
import { openDatabase, type TestDatabase, type TestRole } from '#test/database.ts'
import { newKey, openAccount, openTable, sealedSeed, seedKeys, type Table } from '#test/play.ts'
import { type Mishap, openProxy } from '#test/proxy.ts'
import { until } from '#test/until.ts'

// Breaks each of "Rules that keep money whole" (docs/architecture.md) that rests on the database.

let database: TestDatabase
before(async () => {
  database = await openDatabase()
})
after(() => database.close())

interface After {
  after(work: () => Promise<void>): void
}

const bet = { stakePerLine: 1, lines: 5 }

async function openSession(t: After, role: TestRole, its = database): Promise<pg.Client> {
  const client = new pg.Client({ ...its.target(role), types: exactTypes })
  client.on('error', () => {})
  await client.connect()
  t.after(() => client.end())
  return client
}

/** Every revealed round is recomputed as well, so each account is rotated first. */
async function assertBooksAreWhole(table: Table, accounts: readonly bigint[]): Promise<void> {
  for (const accountId of accounts)
    await table.rotation.rotate({ accountId, key: newKey(), clientSeed: 'last' })
  const books = await reconcile({ target: database.target('monitor'), recompute, deep: true })
  assert.deepEqual(
    books.checks.filter(check => check.mismatches > 0n).map(check => check.name),
    [],
  )
}

// --- Rule 2: unknown outcomes -------------------------------------------------------------------

for (const mishap of ['lost', 'cut', 'unanswered', 'silence'] as const satisfies Mishap[]) {
  for (const crowd of [1, 20]) {
    test(`rule 2: ${crowd} spins on a connection ${mishap} around their commit are answered once each`, async t => {
      const proxy = await openProxy(t, database.target('app'))
      const table = await openTable(t, database, {
        channelTarget: proxy.target,
        channel: { answerTimeoutMs: 400 },
      })
      const accounts = await Promise.all(Array.from({ length: 4 }, () => openAccount(database)))
      await Promise.all(accounts.map(accountId => table.spins.spin({ accountId, key: newKey(), ...bet })))
      proxy.befall(mishap, /settle_spin/)
      const spins = Array.from({ length: crowd }, (_, index) => ({
        accountId: accounts[index % accounts.length] as bigint,
        key: newKey(),
        ...bet,
      }))
      const answers = await Promise.all(spins.map(spin => table.spins.spin(spin)))
      const again = await Promise.all(spins.map(spin => table.spins.spin(spin)))
      for (const [index, answer] of answers.entries()) {
        const repeat = again[index] as SpinResult
        assert.ok(answer.kind === 'settled' && repeat.kind === 'settled')
        assert.equal(repeat.body, answer.body)
        assert.equal(repeat.replayed, true)
      }
      const bodies = answers.map(answer => JSON.parse((answer as { body: string }).body).round.id)
      assert.equal(new Set(bodies).size, crowd)
      await assertBooksAreWhole(table, accounts)
    })
  }
}

for (const mishap of ['lost', 'cut', 'unanswered'] as const satisfies Mishap[]) {
  test(`rule 2: a rotation on a connection ${mishap} around its commit happens once`, async t => {
    const proxy = await openProxy(t, database.target('app'))
    const table = await openTable(t, database, { channelTarget: proxy.target })
    const accountId = await openAccount(database)
    await table.spins.spin({ accountId, key: newKey(), ...bet })
    proxy.befall(mishap, /rotate_seeds/)
    const request = { accountId, key: newKey(), clientSeed: 'once' }
    const rotated = await table.rotation.rotate(request)
    assert.deepEqual(await table.rotation.rotate(request), { body: rotated.body, replayed: true })
    const pairs = await database.query('SELECT FROM seed_pairs WHERE account_id = $1', [accountId])
    assert.equal(pairs.length, 3)
    await assertBooksAreWhole(table, [accountId])
  })
}

test('rule 2: a spin whose backend dies in its commit wait is read back, exactly once', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  await table.spins.spin({ accountId, key: newKey(), ...bet })
  await setStandbys('missing')
  t.after(() => setStandbys(''))
  const key = newKey()
  let answered = false
  const spin = table.spins.spin({ accountId, key, ...bet }).finally(() => {
    answered = true
  })
  const ends: string[] = []
  for (const end of ['cancel', 'terminate', 'cancel']) {
    // First the settlement waits for the standby, then the one that reads it back: its record must be replicated too.
    const pid = await settlementWaiting()
    await database.query(`SELECT pg_${end}_backend($1)`, [pid])
    await until(async () => (await settlementWaiting()) !== pid)
    ends.push(end)
  }
  assert.equal(
    answered,
    false,
    `visible here after ${ends.join(', ')}, and not on the standby: nobody may hear of it`,
  )
  await setStandbys('')
  const result = await spin
  assert.equal(result.kind, 'settled')
  const rounds = await database.query('SELECT FROM rounds WHERE account_id = $1', [accountId])
  assert.equal(rounds.length, 2)
  await assertBooksAreWhole(table, [accountId])
})

test('rule 2: a replay on another server also waits for the standby', async t => {
  const [first, other] = [await openTable(t, database), await openTable(t, database)]
  const accountId = await openAccount(database)
  await other.spins.spin({ accountId, key: newKey(), ...bet })
  await first.spins.spin({ accountId, key: newKey(), ...bet })
  await setStandbys('missing')
  t.after(() => setStandbys(''))
  const spin = { accountId, key: newKey(), ...bet }
  const acknowledged: string[] = []
  const told = (by: string) => (result: SpinResult) => {
    acknowledged.push(by)
    return result
  }
  const ours = first.spins.spin(spin).then(told('first'))
  const pid = await settlementWaiting()
  const theirs = other.spins.spin(spin).then(told('other'))
  // The commit becomes visible here and is on no standby.
  await database.query('SELECT pg_terminate_backend($1)', [pid])
  await until(async () => (await waitingBackends()).length >= 2)
  assert.deepEqual(acknowledged, [])
  await setStandbys('')
  const [one, two] = await Promise.all([ours, theirs])
  assert.ok(one.kind === 'settled' && two.kind === 'settled')
  assert.equal(one.body, two.body)
  await assertBooksAreWhole(first, [accountId])
})

async function waitingBackends(): Promise<number[]> {
  const rows = await database.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'test settlement'`,
  )
  return rows.map(row => row.pid)
}

async function settlementWaiting(): Promise<number> {
  let pid: number | undefined
  await until(async () => {
    pid = (await waitingBackends())[0]
    return pid !== undefined
  })
  return pid as number
}

async function setStandbys(names: string): Promise<void> {
  await database.query(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`)
  await database.query('SELECT pg_reload_conf()')
  await until(async () => {
    const [row] = await database.query('SHOW synchronous_standby_names')
    return row?.synchronous_standby_names === names
  })
}

// --- Rule 3: synchronous_commit, planner settings, least privilege ------------------------------

test('rule 3: each money function commits synchronously whatever the role’s default, and no setting leaks', async t => {
  const own = await openDatabase()
  t.after(() => own.close())
  const table = await openTable(t, own)
  const accountId = await openAccount(own)
  await table.spins.spin({ accountId, key: newKey(), ...bet })
  await own.query(`ALTER ROLE moonyetis_app IN DATABASE ${own.name} SET synchronous_commit = off`)
  await watchCommits(own)
  const app = await openSession(t, 'app', own)
  const settings = () => currentSettings(app)
  const usual = await settings()
  assert.equal(usual.synchronous_commit, 'off', 'the default is the wrong one')
  for (const { name, sql } of await moneyCalls(own, accountId)) {
    await own.query('TRUNCATE commits')
    const { rows } = await app.query(sql)
    assert.equal(rows.length, 1, name)
    const seen = await own.query('SELECT DISTINCT synchronous_commit, enable_seqscan FROM commits')
    // The planner settings are gone again at the commit, the durability is not.
    assert.deepEqual(seen, [{ synchronous_commit: 'on', enable_seqscan: 'on' }], name)
    assert.deepEqual(await settings(), usual, `${name} leaves the session as it was`)
  }
  // What writes no row leaves a record in the log all the same, and waits for it.
  await app.query('BEGIN')
  await app.query(`SELECT * FROM read_outcomes(ARRAY[${accountId}::bigint], ARRAY[gen_random_uuid()])`)
  const { rows } = await app.query(
    `SELECT current_setting('synchronous_commit') AS synchronous, pg_current_xact_id_if_assigned() IS NOT NULL AS written`,
  )
  assert.deepEqual(rows, [{ synchronous: 'on', written: true }])
  await app.query('COMMIT')
  assert.deepEqual(await settings(), usual)
})

/** Notes at each commit under which settings it happens: deferred triggers run last. */
async function watchCommits(its: TestDatabase): Promise<void> {
  await its.query(`CREATE TABLE commits (synchronous_commit text, enable_seqscan text);
    CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
      INSERT INTO commits VALUES (current_setting('synchronous_commit'), current_setting('enable_seqscan'));
      RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER note_commit AFTER INSERT OR UPDATE ON accounts
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_commit()`)
}

async function currentSettings(client: pg.Client): Promise<Record<string, string>> {
  const { rows } = await client.query(
    `SELECT name, setting FROM pg_settings
     WHERE name LIKE 'enable%' OR name IN ('synchronous_commit', 'plan_cache_mode', 'jit', 'search_path', 'lock_timeout')`,
  )
  return Object.fromEntries(rows.map(row => [row.name, row.setting]))
}

/** One call of each function that moves money or seeds, as the application makes them. */
async function moneyCalls(
  its: TestDatabase,
  accountId: bigint,
): Promise<Array<{ name: string; sql: string }>> {
  const [seat] = await its.query('SELECT seed_pair_id, next_nonce FROM accounts WHERE id = $1', [accountId])
  const pair = seat?.seed_pair_id
  const nonce = Number(seat?.next_nonce)
  const [revealedRow] = await its.query(
    'SELECT sealed_seed, server_seed_hash FROM seed_pairs WHERE id = $1',
    [pair],
  )
  const seed = seedKeys.open(revealedRow?.sealed_seed, revealedRow?.server_seed_hash)
  const sealed = () => {
    const [hash, bytes] = sealedSeed()
    return `'${hash}', '\\x${bytes.toString('hex')}'`
  }
  return [
    {
      name: 'settle_spin',
      sql: `SELECT settle_spin(${accountId}, ${pair}, ${nonce}, gen_random_uuid(), 1, 1, 0, 0, 1::smallint)`,
    },
    {
      name: 'settle_spins',
      sql: `SELECT settle_spins(ARRAY[${accountId}::bigint], ARRAY[${pair}::bigint], ARRAY[${nonce + 1}::bigint],
        ARRAY[2::bigint], ARRAY[-2::bigint], ARRAY[2], ARRAY[1, 1], ARRAY[gen_random_uuid(), gen_random_uuid()],
        ARRAY[${nonce + 1}::bigint, ${nonce + 2}::bigint], ARRAY[17, 17], ARRAY[0, 0], ARRAY[0::bigint, 0::bigint],
        ARRAY[-1::bigint, -2::bigint], 1::smallint)`,
    },
    {
      name: 'rotate_seeds',
      sql: `SELECT rotate_seeds(${accountId}, gen_random_uuid(), 1, ${pair}, '${seed}', 'x', ${sealed()})`,
    },
    {
      name: 'open_demo_player',
      sql: `SELECT open_demo_player(sha256('t'), '1 day', ${sealed()}, ${sealed()})`,
    },
  ]
}

const appFunctions = [
  'append_audit_events',
  'close_session',
  'ensure_partitions',
  'expire_idempotency',
  'expire_sessions',
  'find_session',
  'finish_recovery',
  'open_demo_player',
  'read_outcomes',
  'read_seat',
  'read_seats_to_retire',
  'read_unrevealed_seeds',
  'register_game_version',
  'retire_seats',
  'reveal_seeds',
  'roll_up_leaderboard',
  'rotate_seeds',
  'settle_spin',
  'settle_spins',
]

test('rule 3: the application may call its functions and no other; people and checks may call none', async () => {
  for (const [role, expected] of [
    ['moonyetis_app', appFunctions],
    ['moonyetis_monitor', []],
    ['moonyetis_user', []],
    ['moonyetis_replication', ['write_canary']],
  ] as const) {
    const rows = await database.query<{ name: string }>(
      `SELECT p.proname AS name FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
       AND has_function_privilege($1, p.oid, 'EXECUTE') ORDER BY 1`,
      [role],
    )
    assert.deepEqual(
      rows.map(row => row.name),
      expected,
      role,
    )
  }
})

test('rule 3: no role of ours may change a table or a sequence, or read sessions or sealed seeds', async () => {
  const roles = ['moonyetis_app', 'moonyetis_monitor', 'moonyetis_user']
  const changes = await database.query(
    `SELECT role, c.relname, privilege
     FROM unnest($1::text[]) AS role, pg_class c,
          unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN']) AS privilege
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND has_table_privilege(role, c.oid, privilege)`,
    [roles],
  )
  assert.deepEqual(changes, [])
  const columns = await database.query(
    `SELECT role, a.attrelid::regclass::text, a.attname FROM unnest($1::text[]) AS role, pg_attribute a
     JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
     WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
       AND (has_column_privilege(role, a.attrelid, a.attnum, 'INSERT, UPDATE, REFERENCES')
         OR ((c.relname = 'sessions' OR a.attname LIKE 'sealed%')
             AND has_column_privilege(role, a.attrelid, a.attnum, 'SELECT')))`,
    [roles],
  )
  assert.deepEqual(columns, [])
  const others = await database.query(
    `SELECT role FROM unnest($1::text[]) AS role WHERE has_schema_privilege(role, 'public', 'CREATE')
       OR has_database_privilege(role, current_database(), 'CREATE')
       OR EXISTS (SELECT FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace = 'public'::regnamespace
                  AND has_sequence_privilege(role, c.oid, 'USAGE, UPDATE'))`,
    [roles],
  )
  assert.deepEqual(others, [])
})

test('rule 3: what is forbidden fails when it is tried', async t => {
  const app = await openSession(t, 'app')
  const monitor = await openSession(t, 'monitor')
  const denied = { code: '42501' }
  for (const statement of [
    'UPDATE accounts SET balance = balance + 1',
    'DELETE FROM idempotency',
    'TRUNCATE postings',
    'INSERT INTO postings VALUES (1, 1, 1000, 5, now(), 3)',
    'UPDATE rounds_0 SET payout = 9',
    `SELECT nextval('movement_ids')`,
    'SELECT sealed_seed FROM seed_pairs',
    'SELECT * FROM seed_pairs',
    'SELECT * FROM sessions',
    `SELECT open_account(1, 'a', 'a', 'b', 'b')`,
    'SELECT set_refused_groups_aside(NULL, NULL, NULL, NULL, NULL, NULL, NULL)',
    'SET session_replication_role = replica',
    'ALTER TABLE postings DISABLE TRIGGER ALL',
    'DROP TABLE rounds',
  ]) {
    await assert.rejects(app.query(statement), denied, `app: ${statement}`)
    await assert.rejects(monitor.query(statement), denied, `monitor: ${statement}`)
  }
})

test('rule 3: every function that runs as the owner fixes its search path', async () => {
  const loose = await database.query(
    `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
     AND NOT EXISTS (SELECT FROM unnest(proconfig) AS setting WHERE setting = 'search_path=public, pg_temp')`,
  )
  assert.deepEqual(loose, [])
})

test('rule 3: history cannot be changed or emptied, not even by the owner of the tables or a superuser', async t => {
  const table = await openTable(t, database)
  await table.spins.spin({ accountId: await openAccount(database), key: newKey(), ...bet })
  await database.query(
    `INSERT INTO audit_events VALUES ('rules', 1, now(), 'a', 'b', 'c', '{}', 'd', 'e') ON CONFLICT DO NOTHING`,
  )
  const tables = await database.query<{ name: string; column: string }>(
    `SELECT c.oid::regclass::text AS name, CASE WHEN c.relname LIKE 'p%' THEN 'amount' WHEN c.relname LIKE 'r%'
       THEN 'payout' ELSE 'sequence' END AS column
     FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relname ~ '^(postings|rounds|audit_events)(_\\d+)?$'`,
  )
  assert.ok(tables.length >= 9, `${tables.length} tables`)
  const sessions = [await openSession(t, 'owner'), await openSession(t, 'superuser')]
  for (const client of sessions) {
    for (const { name, column } of tables) {
      await assert.rejects(client.query(`TRUNCATE ${name}`), { code: 'MY001' }, `TRUNCATE ${name}`)
      const { rows } = await client.query(`SELECT count(*) AS rows FROM ${name}`)
      if (rows[0].rows === 0n) continue
      await assert.rejects(client.query(`DELETE FROM ${name}`), { code: 'MY001' }, `DELETE FROM ${name}`)
      const update = `UPDATE ${name} SET ${column} = ${column} + 1`
      await assert.rejects(client.query(update), { code: 'MY001' }, update)
    }
  }
})

// --- Rule 4: nonces -----------------------------------------------------------------------------

test('rule 4: a draw at another nonce or of another pair is not accepted, and nothing of it is written', async t => {
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  await table.spins.spin({ accountId, key: newKey(), ...bet })
  const [before] = await database.query('SELECT * FROM accounts WHERE id = $1', [accountId])
  const pair = before?.seed_pair_id as bigint
  const app = await openSession(t, 'app')
  const settle = async (itsPair: bigint, nonce: number) => {
    const { rows } = await app.query(
      'SELECT status, pair, nonce FROM settle_spin($1, $2, $3, gen_random_uuid(), 1, 1, 0, 40, 1::smallint)',
      [accountId, itsPair, nonce],
    )
    return rows[0]
  }
  for (const [itsPair, nonce] of [
    [pair, 0],
    [pair, 2],
    [pair + 1n, 1],
    [1n, 0],
  ] as const) {
    assert.deepEqual(await settle(itsPair, nonce), { status: 'stale', pair, nonce: 1n })
  }
  assert.deepEqual(await database.query('SELECT * FROM accounts WHERE id = $1', [accountId]), [before])
  assert.equal((await settle(pair, 1)).status, 'settled')
})

test('rule 4: spins drawn before somebody else’s spins and rotation are drawn again, unseen', async t => {
  const [ours, theirs] = [await openTable(t, database), await openTable(t, database)]
  const accounts = await Promise.all(Array.from({ length: 3 }, () => openAccount(database)))
  const spin = (table: Table, accountId: bigint) => table.spins.spin({ accountId, key: newKey(), ...bet })
  await Promise.all(accounts.map(accountId => spin(ours, accountId)))
  for (const accountId of accounts) {
    await spin(theirs, accountId)
    await theirs.rotation.rotate({ accountId, key: newKey(), clientSeed: 'elsewhere' })
    await spin(theirs, accountId)
  }
  const results = await Promise.all(
    accounts.flatMap(accountId => [spin(ours, accountId), spin(ours, accountId)]),
  )
  const bodies = results.map(result => JSON.parse((result as { body: string }).body).round)
  assert.deepEqual(
    bodies.map(round => [round.clientSeed, round.nonce]),
    accounts.flatMap(() => [
      ['elsewhere', 1],
      ['elsewhere', 2],
    ]),
  )
  await assertBooksAreWhole(ours, accounts)
})

test('rule 4: two servers that play one account at once both get on, without a gap or a twin', async t => {
  const tables = [await openTable(t, database), await openTable(t, database)]
  const accountId = await openAccount(database)
  let given = 0
  const play = async (table: Table, player: number) => {
    for (let turn = 0; turn < 12; turn++) {
      const spin = { accountId, key: newKey(), ...bet }
      for (;;) {
        try {
          assert.equal((await table.spins.spin(spin)).kind, 'settled')
          break
        } catch (error) {
          // Giving way is allowed, and told so.
          assert.equal((error as { code?: string }).code, 'LEDGER_BUSY')
          given++
        }
      }
      if (player === 0 && turn % 4 === 3)
        await table.rotation.rotate({ accountId, key: newKey(), clientSeed: `turn-${turn}` })
    }
  }
  await Promise.all(tables.flatMap(table => Array.from({ length: 8 }, (_, player) => play(table, player))))
  assert.ok(given < 20, `${given} of 192 spins had to come again`)
  const [row] = await database.query('SELECT count(*)::int AS rounds FROM rounds WHERE account_id = $1', [
    accountId,
  ])
  assert.deepEqual(row, { rounds: 192 })
  await assertBooksAreWhole(tables[0] as Table, [accountId])
})

// --- Rule 10: what initdb and the first migration fixed for ever --------------------------------

test('rule 10: the database is C.UTF-8 by the builtin provider, UTF-8, UTC, with checksums', async () => {
  const [facts] = await database.query(
    `SELECT datlocprovider AS provider, datlocale AS locale, datcollate AS collate, pg_encoding_to_char(encoding) AS encoding,
            current_setting('TimeZone') AS timezone, current_setting('data_checksums') AS checksums
     FROM pg_database WHERE datname = current_database()`,
  )
  const { collate, ...rest } = facts as Record<string, string>
  assert.deepEqual(rest, {
    provider: 'b',
    locale: 'C.UTF-8',
    encoding: 'UTF8',
    timezone: 'UTC',
    checksums: 'on',
  })
  assert.match(String(collate), /^C(\.UTF-?8)?$/i)
})

test('rule 10: rounds, postings and keys are partitioned, with room ahead of the series', async () => {
  const parts = await database.query(
    `SELECT p.partrelid::regclass::text AS parent, p.partstrat AS strategy, count(*)::int AS parts
     FROM pg_partitioned_table p JOIN pg_inherits i ON i.inhparent = p.partrelid GROUP BY 1, 2 ORDER BY 1`,
  )
  assert.deepEqual(parts, [
    { parent: 'idempotency', strategy: 'h', parts: 8 },
    { parent: 'postings', strategy: 'r', parts: 3 },
    { parent: 'rounds', strategy: 'r', parts: 3 },
  ])
})
