import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { silentLog } from '#lib/log.ts'
import { Database } from '#postgres/client/database.ts'
import { checkInstallation, recordChain } from '#postgres/client/installation.ts'
import { migrate, schemaRange } from '#postgres/client/migrations.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'
import { until } from '#test/until.ts'

interface After {
  after(work: () => Promise<void> | void): void
}

let database: TestDatabase
before(async () => {
  database = await openDatabase()
})
after(() => database.close())

/** A database without a table of ours. */
async function emptyDatabase(t: After): Promise<TestDatabase> {
  const empty = await openDatabase()
  t.after(() => empty.close())
  await empty.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION moonyetis_owner')
  return empty
}

/** A folder of migrations, `{ '0001_one.sql': 'CREATE …' }`. */
function folder(t: After, files: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), 'migrations-'))
  t.after(() => rmSync(directory, { recursive: true }))
  for (const [name, sql] of Object.entries(files)) writeFileSync(join(directory, name), sql)
  return directory
}

function run(its: TestDatabase, directory: string) {
  return migrate({ connection: its.target('owner'), directory, log: silentLog })
}

async function tables(its: TestDatabase): Promise<string[]> {
  const rows = await its.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1`,
  )
  return rows.map(row => row.name)
}

test('migrations are applied in order, once, and what is new goes on from there', async t => {
  const empty = await emptyDatabase(t)
  const one = { '0001_one.sql': 'CREATE TABLE one ()' }
  const two = { ...one, '0002_two.sql': 'ALTER TABLE one RENAME TO two; CREATE TABLE three ()' }
  assert.deepEqual(await run(empty, folder(t, one)), { applied: ['0001_one.sql'], version: 1 })
  assert.deepEqual(await run(empty, folder(t, one)), { applied: [], version: 1 })
  assert.deepEqual(await run(empty, folder(t, two)), { applied: ['0002_two.sql'], version: 2 })
  assert.deepEqual(await tables(empty), ['schema_migrations', 'three', 'two'])
  // An older program finds a newer schema and leaves it alone.
  assert.deepEqual(await run(empty, folder(t, one)), { applied: [], version: 2 })
})

test('a migration that fails is rolled back whole, those before it stay, and the next run goes on', async t => {
  const empty = await emptyDatabase(t)
  const good = { '0001_one.sql': 'CREATE TABLE one ()', '0003_three.sql': 'CREATE TABLE three ()' }
  const bad = folder(t, { ...good, '0002_two.sql': 'CREATE TABLE two (); SELECT 1 / 0' })
  await assert.rejects(run(empty, bad), {
    code: 'MIGRATION_FAILED',
    message: /0002_two\.sql failed and was rolled back: division by zero/,
  })
  assert.deepEqual(await tables(empty), ['one', 'schema_migrations'])
  const mended = folder(t, { ...good, '0002_two.sql': 'CREATE TABLE two ()' })
  assert.deepEqual((await run(empty, mended)).applied, ['0002_two.sql', '0003_three.sql'])
})

test('a migration that was applied as another text is refused before anything is done', async t => {
  const empty = await emptyDatabase(t)
  await run(empty, folder(t, { '0001_one.sql': 'CREATE TABLE one ()' }))
  const changed = folder(t, {
    '0001_one.sql': 'CREATE TABLE other ()',
    '0002_two.sql': 'CREATE TABLE two ()',
  })
  await assert.rejects(run(empty, changed), { code: 'MIGRATION_INVALID', message: /0001_one\.sql/ })
  assert.deepEqual(await tables(empty), ['one', 'schema_migrations'])
})

test('two runners at once apply each migration once', async t => {
  const empty = await emptyDatabase(t)
  const directory = folder(t, {
    '0001_one.sql': 'CREATE TABLE one (); SELECT pg_sleep(0.2)',
    '0002_two.sql': 'CREATE TABLE two ()',
  })
  const results = await Promise.all([run(empty, directory), run(empty, directory), run(empty, directory)])
  assert.deepEqual(results.map(result => result.applied.length).sort(), [0, 0, 2])
  assert.ok(results.every(result => result.version === 2))
})

test('a migration does not wait for a table longer than five seconds', async t => {
  const empty = await emptyDatabase(t)
  await run(empty, folder(t, { '0001_one.sql': 'CREATE TABLE one ()' }))
  const reader = new pg.Client(empty.target('superuser'))
  reader.on('error', () => {})
  await reader.connect()
  t.after(() => reader.end())
  await reader.query('BEGIN; SELECT * FROM one')
  const directory = folder(t, {
    '0001_one.sql': 'CREATE TABLE one ()',
    '0002_two.sql': `SET LOCAL lock_timeout = '100ms'; ALTER TABLE one ADD COLUMN n integer`,
  })
  await assert.rejects(run(empty, directory), { code: 'MIGRATION_FAILED', message: /lock timeout/ })
  // What a migration gets that sets nothing itself.
  const asked = folder(t, {
    '0001_one.sql': 'CREATE TABLE one ()',
    '0002_two.sql': `DO $$ BEGIN RAISE EXCEPTION 'lock_timeout is %', current_setting('lock_timeout'); END $$`,
  })
  await assert.rejects(run(empty, asked), { message: /lock_timeout is 5s/ })
  await reader.query('COMMIT')
  assert.deepEqual((await run(empty, directory)).applied, ['0002_two.sql'])
})

test('a runner that waits too long for another says so', async t => {
  const empty = await emptyDatabase(t)
  const other = new pg.Client(empty.target('owner'))
  other.on('error', () => {})
  await other.connect()
  t.after(() => other.end())
  await other.query(`SELECT pg_advisory_lock(hashtext('moonyetis.migrate'))`)
  const directory = folder(t, { '0001_one.sql': 'CREATE TABLE one ()' })
  const waiting = assert.rejects(
    migrate({ connection: empty.target('owner'), directory, log: silentLog, waitMs: 200 }),
    { code: 'MIGRATION_RUNNING' },
  )
  await waiting
})

test('a server that is not there is told as such', async t => {
  const directory = folder(t, {})
  const connection = { ...database.target('owner'), host: '127.0.0.1', port: 1 }
  await assert.rejects(migrate({ connection, directory, log: silentLog }), { code: 'DATABASE_UNAVAILABLE' })
})

test('a database without our schema, an older and a newer one are refused with what to do', async t => {
  const empty = await emptyDatabase(t)
  const pool = (its: TestDatabase) => {
    const opened = new Database({ target: its.target('superuser'), applicationName: 'test', log: silentLog })
    t.after(() => opened.close())
    return opened
  }
  const unfit = (hint: RegExp) => ({ code: 'SCHEMA_UNFIT', hint })
  await assert.rejects(checkInstallation(pool(empty), 'simulated'), unfit(/moonyetis migrate/))
  const copy = await database.copy()
  t.after(() => copy.close())
  const reader = pool(copy)
  await checkInstallation(reader, 'simulated')
  await copy.query('INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)', [
    schemaRange.newest + 1,
    'later',
    'x',
  ])
  await assert.rejects(checkInstallation(reader, 'simulated'), unfit(/newer program/))
  await copy.query('DELETE FROM schema_migrations WHERE version >= $1', [schemaRange.oldest])
  await assert.rejects(checkInstallation(reader, 'simulated'), unfit(/moonyetis migrate/))
})

test('a database keeps the chain that it was made for', async t => {
  const copy = await database.copy()
  t.after(() => copy.close())
  const mismatch = { code: 'CHAIN_MISMATCH', hint: /MOONYETIS_CHAIN=simulated/ }
  await recordChain(copy.target('owner'), 'simulated')
  await assert.rejects(recordChain(copy.target('owner'), 'mainnet'), mismatch)
  const app = new Database({ target: copy.target('app'), applicationName: 'test', log: silentLog })
  t.after(() => app.close())
  await checkInstallation(app, 'simulated')
  await assert.rejects(checkInstallation(app, 'mainnet'), mismatch)
  await copy.query('DELETE FROM installation')
  await assert.rejects(checkInstallation(app, 'simulated'), { code: 'SCHEMA_UNFIT' })
  await recordChain(copy.target('owner'), 'mainnet')
  await checkInstallation(app, 'mainnet')
})

test('a pool reconnects after its connections were ended, and keeps no statement for ever', async t => {
  const pool = new Database({
    target: database.target('app'),
    applicationName: 'ended pool',
    log: silentLog,
    statementTimeoutMs: 200,
  })
  t.after(() => pool.close())
  await Promise.all([1, 2, 3].map(() => pool.query('SELECT pg_sleep(0.05)')))
  await database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended pool'`,
  )
  await until(async () =>
    pool.query('SELECT 1').then(
      () => true,
      error => {
        assert.equal(error.code, 'DATABASE_UNAVAILABLE')
        return false
      },
    ),
  )
  await assert.rejects(pool.query('SELECT pg_sleep(60)'), { code: '57014' })
  await assert.rejects(pool.query('SELECT 1/0'), { code: '22012' })
  await assert.rejects(
    pool.transaction(async client => {
      await client.query('SELECT 1')
      throw new Error('changed my mind')
    }),
    /changed my mind/,
  )
  assert.equal(await pool.transaction(async client => (await client.query('SELECT 5 AS n')).rows[0].n), 5)
})
