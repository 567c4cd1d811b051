import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import { isConnectionTrouble } from './database.ts'
import { databaseError } from './errors.ts'
import { checkSchema, readMigrations, schemaRange } from './migrations.ts'
import { embeddedTarget, exactTypes, externalTargets } from './target.ts'

test('a connection URI names one target per host, and escapes are undone', () => {
  const [first, second] = externalTargets('postgresql://us%40er:p%2Fw@a.example,[::1]:6000/my%20db')
  assert.deepEqual(first, {
    host: 'a.example',
    port: 5432,
    database: 'my db',
    user: 'us@er',
    password: 'p/w',
  })
  assert.deepEqual(second, { ...first, host: '::1', port: 6000 })
  const [socket] = externalTargets('postgres://u@%2Fvar%2Frun:5433/db')
  assert.deepEqual(socket, { host: '/var/run', port: 5433, database: 'db', user: 'u' })
})

test('sslmode is read as libpq reads it', () => {
  const ssl = (mode: string) => externalTargets(`postgres://u@h/d?sslmode=${mode}`)[0]?.ssl
  assert.deepEqual(['disable', 'allow', 'prefer'].map(ssl), [undefined, undefined, undefined])
  assert.deepEqual(ssl('require'), { rejectUnauthorized: false })
  assert.deepEqual(['verify-ca', 'verify-full'].map(ssl), [
    { rejectUnauthorized: true },
    { rejectUnauthorized: true },
  ])
})

test('what is no PostgreSQL address gives no target', () => {
  for (const url of ['', 'mysql://u@h/d', 'postgres://', 'postgres://h', 'http://h/d'])
    assert.deepEqual(externalTargets(url), [], url)
})

test('the embedded server is reached by its socket directory', () => {
  assert.deepEqual(embeddedTarget({ socketDirectory: '/run/x', port: 5432, user: 'moonyetis_app' }), {
    host: '/run/x',
    port: 5432,
    database: 'moonyetis_slots',
    user: 'moonyetis_app',
  })
})

test('bigint columns become bigint, and numbers that could lose digits stay text', () => {
  const parser = (oid: number) => exactTypes?.getTypeParser(oid, 'text') as (text: string) => unknown
  assert.equal(parser(20)('9007199254740993'), 9007199254740993n)
  assert.equal(parser(1700)('0.10'), '0.10')
  assert.equal(parser(1082)('2026-01-01'), '2026-01-01')
  assert.equal(parser(23)('7'), 7)
})

test('a lost connection is told apart from a statement that failed', () => {
  const ofServer = (severity: string, code: string) =>
    Object.assign(new pg.DatabaseError('m', 1, 'error'), { severity, code })
  const ofNode = (code: string) => Object.assign(new Error('m'), { code })
  for (const error of [
    ofServer('FATAL', '57P01'),
    ofServer('FATAL', '53300'),
    ofServer('PANIC', 'XX000'),
    ofServer('ERROR', '08006'),
    ofServer('ERROR', '57P02'),
    ofNode('ECONNREFUSED'),
    ofNode('EPIPE'),
    ofNode('ENOENT'),
    new Error('Connection terminated unexpectedly'),
    new Error('Client has encountered a connection error and is not queryable'),
    new Error('timeout expired'),
    new Error('Query read timeout'),
  ])
    assert.equal(isConnectionTrouble(error), true, `${error.message} ${(error as { code?: string }).code}`)
  for (const error of [
    ofServer('ERROR', '23505'),
    ofServer('ERROR', '57014'),
    ofServer('ERROR', '40001'),
    Object.assign(ofServer('ERROR', '22023'), { message: 'connection timeout' }),
    new Error('expected one row, got 0'),
    databaseError('MIGRATION_FAILED', { name: 'x', reason: 'lock timeout' }),
    'no error',
  ])
    assert.equal(isConnectionTrouble(error), false, String(error))
})

test('migrations are read in order, and a gap, a twin or a strange name is refused', t => {
  const folder = (...names: string[]) => {
    const directory = mkdtempSync(join(tmpdir(), 'migrations-'))
    t.after(() => rmSync(directory, { recursive: true }))
    for (const name of names) writeFileSync(join(directory, name), `-- ${name}`)
    return directory
  }
  const read = readMigrations(folder('0002_two.sql', '0001_one.sql', 'README.md'))
  assert.deepEqual(
    read.map(({ version, name, sql }) => ({ version, name, sql })),
    [
      { version: 1, name: '0001_one.sql', sql: '-- 0001_one.sql' },
      { version: 2, name: '0002_two.sql', sql: '-- 0002_two.sql' },
    ],
  )
  for (const names of [
    ['0001_one.sql', '0003_three.sql'],
    ['0002_two.sql'],
    ['0001_one.sql', '0001_twin.sql'],
    ['0001_one.sql', '0002-two.sql'],
    ['0001_one.sql', '2_two.sql'],
    ['0001_One.sql'],
  ])
    assert.throws(() => readMigrations(folder(...names)), { code: 'MIGRATION_INVALID' }, names.join())
})

test('the migrations of this program end where its schema range does', () => {
  const migrations = readMigrations(join(import.meta.dirname, '..', '..', '..', 'migrations'))
  assert.equal(migrations.at(-1)?.version, schemaRange.newest)
})

test('an older or newer schema is refused, and the hint says who must move', () => {
  checkSchema(schemaRange.oldest)
  checkSchema(schemaRange.newest)
  assert.throws(() => checkSchema(schemaRange.oldest - 1), { code: 'SCHEMA_UNFIT', hint: /migrate/ })
  assert.throws(() => checkSchema(schemaRange.newest + 1), { code: 'SCHEMA_UNFIT', hint: /newer program/ })
})
