import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import pg from 'pg'
import { recompute } from '#game/recompute.ts'
import { Retirement } from '#game/retirement.ts'
import { newSeedKey, SeedKeys } from '#game/seeds.ts'
import { verify } from '#game/verify.ts'
import { reconcile } from '#ledger/reconcile.ts'
import { silentLog } from '#lib/log.ts'
import { Database } from '#postgres/client/database.ts'
import { databaseName, roleNames, superuserName } from '#postgres/server/access.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { readRecoveredFile, writeRecoveredFile } from '#postgres/server/recovered-file.ts'
import { beginRecovery } from '#postgres/server/recovery.ts'
import { Recovery } from '#roles/serve/recovery.ts'
import { startServer, type TestDatabase, withDatabase } from '#test/database.ts'
import { newKey, openAccount, openTable, sealedSeed, seedKeys, type Table } from '#test/play.ts'
import { withClient } from '#test/postgres-node.ts'
import { until } from '#test/until.ts'

interface After {
  after(work: () => Promise<void>): void
}

interface Round {
  id: string
  nonce: number
  serverSeedHash: string
  clientSeed: string
  stops: number[]
}

const bet = { stakePerLine: 1, lines: 1 }
const never = new AbortController().signal

async function spins(table: Table, accountId: bigint, count: number): Promise<Round[]> {
  const rounds: Round[] = []
  for (let index = 0; index < count; index++) {
    const result = await table.spins.spin({ accountId, key: newKey(), ...bet })
    assert.ok(result.kind === 'settled')
    rounds.push((JSON.parse(result.body) as { round: Round }).round)
  }
  return rounds
}

/** As supervise does when it finds the marker of a restore. */
async function begin(database: TestDatabase, id: string = randomUUID()): Promise<boolean> {
  const client = new pg.Client(database.target('owner'))
  await client.connect()
  try {
    const { rows } = await client.query(
      `SELECT begin_recovery($1, 'backup restore', 'the end of the archive', '{}') AS begun`,
      [id],
    )
    return rows[0].begun
  } finally {
    await client.end()
  }
}

function openRetirement(
  t: After,
  database: TestDatabase,
  o: { keys?: Pick<SeedKeys, 'open' | 'seal'>; atOnce?: number } = {},
) {
  const target = database.target('app')
  const app = new Database({ target, applicationName: 'test retirement', log: silentLog })
  t.after(() => app.close())
  return { app, retirement: new Retirement({ database: app, keys: seedKeys, ...o }) }
}

function openRecovery(
  t: After,
  database: TestDatabase,
  o: Parameters<typeof openRetirement>[2] = {},
): Recovery {
  const { app, retirement } = openRetirement(t, database, o)
  return new Recovery({
    database: app,
    retirement,
    reconcile: () => reconcile({ target: database.target('monitor'), recompute, deep: true }),
    log: silentLog,
  })
}

async function states(database: TestDatabase): Promise<Record<string, number>> {
  const rows = await database.query<{ state: string; count: bigint }>(
    'SELECT state, count(*) FROM seed_pairs GROUP BY state ORDER BY state',
  )
  return Object.fromEntries(rows.map(row => [row.state, Number(row.count)]))
}

async function openAccounts(database: TestDatabase, count: number): Promise<bigint[]> {
  const accounts: bigint[] = []
  for (let index = 0; index < count; index++) accounts.push(await openAccount(database))
  return accounts
}

/** The state of a database that servers are connected to, as a backup would have it. */
async function backUp(t: After, database: TestDatabase): Promise<TestDatabase> {
  for (;;) {
    await database.query(
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    )
    try {
      const copy = await database.copy()
      t.after(() => copy.close())
      return copy
    } catch (error) {
      // 55006: somebody was quicker to connect again.
      if ((error as { code?: string }).code !== '55006') throw error
    }
  }
}

/** Puts `backup` in the place of `live`, under its name: the servers that are there reconnect to it. */
async function restore(live: TestDatabase, backup: TestDatabase): Promise<void> {
  const admin = new pg.Client({ ...live.target('superuser'), database: 'postgres' })
  await admin.connect()
  const names = [live.name, backup.name]
  for (const name of names) await admin.query(`ALTER DATABASE ${name} WITH ALLOW_CONNECTIONS false`)
  await admin.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ANY ($1)', [
    names,
  ])
  await admin.query(`ALTER DATABASE ${live.name} RENAME TO ${live.name}_lost`)
  await admin.query(`ALTER DATABASE ${backup.name} RENAME TO ${live.name}`)
  await admin.query(`ALTER DATABASE ${live.name}_lost RENAME TO ${backup.name}`)
  for (const name of names) await admin.query(`ALTER DATABASE ${name} WITH ALLOW_CONNECTIONS true`)
  await admin.end()
}

test('rule 8: a server that played on draws nothing again after its database was replaced by an older one', async t => {
  const live = await withDatabase(t)
  const table = await openTable(t, live)
  const accounts = await openAccounts(live, 3)
  const [, busy, rotating] = accounts as [bigint, bigint, bigint]
  const seen = (await Promise.all(accounts.map(account => spins(table, account, 3)))).flat()
  const backup = await backUp(t, live)
  seen.push(...(await spins(table, busy, 5)), ...(await spins(table, rotating, 2)))
  await table.rotation.rotate({ accountId: rotating, key: newKey(), clientSeed: 'chosen' })
  seen.push(...(await spins(table, rotating, 4)))

  await restore(live, backup)
  assert.equal(await begin(live), true)
  for (const account of accounts)
    await assert.rejects(spins(table, account, 1), { code: 'DATABASE_RECOVERING' })
  const recovery = openRecovery(t, live)
  await recovery.attend(never)
  assert.equal(recovery.reason, undefined)

  const drawn = (await Promise.all(accounts.map(account => spins(table, account, 12)))).flat()
  const hashes = new Set(seen.map(round => round.serverSeedHash))
  const ids = new Set(seen.map(round => round.id))
  for (const round of drawn) {
    assert.ok(!hashes.has(round.serverSeedHash), 'no seed from before is drawn from')
    assert.ok(!ids.has(round.id), 'no id that a player has seen names another round')
  }
  // What players have seen stays verifiable: the rounds that came back, and those that did not.
  const pairs = await live.query<{ server_seed: string; server_seed_hash: string }>(
    `SELECT server_seed, server_seed_hash FROM seed_pairs WHERE state = 'retired'`,
  )
  for (const round of seen) {
    const pair = pairs.find(one => one.server_seed_hash === round.serverSeedHash)
    assert.ok(pair, `the seed of round ${round.id} is public`)
    const { clientSeed, nonce } = round
    assert.deepEqual(verify({ serverSeed: pair.server_seed, clientSeed, nonce, ...bet }).stops, round.stops)
  }
  const books = await reconcile({ target: live.target('monitor'), recompute, deep: true })
  assert.deepEqual(
    books.checks.filter(check => check.mismatches > 0n || check.skipped).map(check => check.name),
    [],
  )
})

test('a recovery begins once per id, ends every session, and until it is finished no chips move', async t => {
  const database = await withDatabase(t)
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  await database.query(`SELECT open_session(sha256('one'), player_id, '1 day') FROM accounts`)
  const id = randomUUID()
  assert.deepEqual([await begin(database, id), await begin(database, id)], [true, false])
  assert.deepEqual(await database.query('SELECT * FROM sessions'), [])
  const recovering = { code: 'DATABASE_RECOVERING' }
  await assert.rejects(spins(table, accountId, 1), recovering)
  // A batch takes another function than a lone spin.
  const batch = [1, 2, 3].map(() => table.spins.spin({ accountId, key: newKey(), ...bet }))
  for (const one of batch) await assert.rejects(one, recovering)
  const [first, second] = [sealedSeed(), sealedSeed()]
  const demo = table.app.query(`SELECT open_demo_player(sha256('t'), '1 day', $1, $2, $3, $4)`, [
    ...first,
    ...second,
  ])
  await assert.rejects(demo, recovering)
  const finish = () => table.app.one<{ done: boolean }>(`SELECT finish_recovery($1, '{}') AS done`, [id])
  assert.equal((await finish()).done, false, 'an old pair is left')
  await openRetirement(t, database).retirement.retireAll()
  assert.equal((await finish()).done, true)
  await spins(table, accountId, 1)
  assert.equal(await begin(database, id), false)
  await spins(table, accountId, 1)
})

test('a second restore in the middle of a recovery is recovered from as well', async t => {
  const database = await withDatabase(t)
  await openAccounts(database, 3)
  await begin(database)
  await openRetirement(t, database, { atOnce: 1 }).retirement.retireAll()
  await begin(database)
  await openRecovery(t, database).attend(never)
  assert.deepEqual(await states(database), { active: 3, next: 3, retired: 12 })
  const rows = await database.query('SELECT id FROM recoveries WHERE finished_at IS NULL')
  assert.deepEqual(rows, [])
})

test('two servers recover at once, and one that dies in the middle is carried on from', async t => {
  const database = await withDatabase(t)
  const accounts = 40
  await openAccounts(database, accounts)
  await begin(database)
  let opened = 0
  const dying = {
    seal: seedKeys.seal.bind(seedKeys),
    open: (sealed: Uint8Array, hash: string) => {
      if (++opened > 20) throw new Error('killed')
      return seedKeys.open(sealed, hash)
    },
  }
  const killed = openRetirement(t, database, { keys: dying, atOnce: 3 })
  await assert.rejects(killed.retirement.retireAll(), /killed/)
  const { retired = 0 } = await states(database)
  assert.ok(retired > 0 && retired < 2 * accounts, `${retired} pairs were retired`)

  const both = [1, 2].map(() => openRetirement(t, database, { atOnce: 3 }).retirement.retireAll())
  const done = (await Promise.all(both)).map(one => one.accounts)
  assert.equal((done[0] as number) + (done[1] as number), accounts - retired / 2, 'each account once')
  assert.deepEqual(await states(database), { active: accounts, next: accounts, retired: 2 * accounts })
  await Promise.all([1, 2].map(() => openRecovery(t, database).attend(never)))
  const [row] = await database.query('SELECT count(finished_at) AS finished FROM recoveries')
  assert.equal(row?.finished, 1n)
})

test('a seed whose key is lost is retired all the same, and revealed when the key is back', async t => {
  const database = await withDatabase(t)
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  await spins(table, accountId, 2)
  await begin(database)
  const keys = new SeedKeys({ currentKid: 'k1', keys: new Map([['k1', Buffer.from(newSeedKey(), 'hex')]]) })
  assert.deepEqual(await openRetirement(t, database, { keys }).retirement.retireAll(), {
    accounts: 1,
    unreadable: 2,
  })
  await openRecovery(t, database, { keys }).attend(never)
  const [sealed] = await database.query(
    `SELECT count(*) FILTER (WHERE server_seed IS NULL AND sealed_seed IS NOT NULL) AS sealed,
            (SELECT finished_at IS NOT NULL FROM recoveries) AS finished FROM seed_pairs WHERE state = 'retired'`,
  )
  assert.deepEqual(sealed, { sealed: 2n, finished: true })
  // What was made meanwhile was sealed with the other key.
  assert.equal(await openRetirement(t, database, { keys }).retirement.revealLeft(), 0)
  assert.equal(await openRetirement(t, database).retirement.revealLeft(), 2)
  const books = await reconcile({ target: database.target('monitor'), recompute, deep: true })
  assert.ok(books.clean)
  assert.equal(books.checks.find(check => check.name === 'draws')?.rows, 2n)
})

test('broken books keep a restored database closed, with words', async t => {
  const database = await withDatabase(t)
  const table = await openTable(t, database)
  const accountId = await openAccount(database)
  await database.query('UPDATE accounts SET balance = balance + 1 WHERE id = $1', [accountId])
  await begin(database)
  const recovery = openRecovery(t, database)
  assert.match(recovery.reason ?? '', /starting/)
  await recovery.attend(never)
  await recovery.look()
  assert.match(recovery.reason ?? '', /^The database was restored \(backup restore: .*not whole \(balances\)/)
  await assert.rejects(spins(table, accountId, 1), { code: 'DATABASE_RECOVERING' })
})

test('the application can prove the books by itself, where it has no other way in', async t => {
  const database = await withDatabase(t)
  await openAccounts(database, 1)
  const books = await reconcile({ target: database.target('app'), recompute, deep: true })
  assert.ok(books.clean)
})

test('sessions that servers remember end with the begin of a recovery', async t => {
  const database = await withDatabase(t)
  const heard: string[] = []
  const listener = new pg.Client(database.target('app'))
  listener.on('error', () => {})
  await listener.connect()
  t.after(() => listener.end())
  listener.on('notification', notice => heard.push(notice.payload ?? ''))
  await listener.query('LISTEN session_closed')
  await begin(database)
  await until(() => heard.length > 0)
  // Anything but a hash means: believe nothing that was verified before (identity/sessions.ts).
  assert.deepEqual(heard, ['all'])
})

test('settings that change while a recovery begins do not keep the application out', async t => {
  const { node, stop } = await startServer()
  t.after(stop)
  const facts = { id: randomUUID(), at: new Date().toISOString(), cause: 'backup restore', target: 'a test' }
  writeRecoveredFile(node.dataDirectory, facts)
  const change = (value: string) => node.changeSettings({ work_mem: value }, 10_000)
  await change('5MB')
  const login = node.connection({ user: roleNames.app, database: databaseName })
  const signIn = () => withClient(login, client => client.query('SELECT 1'))
  await assert.rejects(signIn(), /no pg_hba\.conf entry/)

  // The synchronous set is written whenever it likes; here right before PostgreSQL is told to let the application in.
  let changing: Promise<void> | undefined
  const busy: PostgresNode = Object.assign(Object.create(node), {
    dataDirectory: node.dataDirectory,
    connection: (options: { user: string; database: string }) => {
      if (options.user === superuserName) changing ??= change('6MB')
      return node.connection(options)
    },
  })
  assert.deepEqual(await beginRecovery({ node: busy, log: silentLog }), facts)
  await changing
  assert.equal(readRecoveredFile(node.dataDirectory), undefined)
  await signIn()
})
