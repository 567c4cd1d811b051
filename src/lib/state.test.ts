import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openHome } from './home.ts'
import { inTransaction, openState } from './state.ts'

function temporaryHome(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'state-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return openHome(directory)
}

const first = 'CREATE TABLE bans (cidr TEXT PRIMARY KEY) STRICT'
const second = 'ALTER TABLE bans ADD COLUMN reason TEXT; CREATE INDEX bans_reason ON bans (reason)'
const codeIs = (code: string) => (error: unknown) => (error as { code?: string }).code === code

test('a state file is durable, waits for locks, checks references and is private', t => {
  const home = temporaryHome(t)
  const database = openState({ home, name: 'guard', migrations: [first] })
  const pragma = (name: string) => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]
  assert.equal(pragma('journal_mode'), 'wal')
  assert.equal(pragma('synchronous'), 2)
  assert.equal(pragma('busy_timeout'), 5000)
  assert.equal(pragma('foreign_keys'), 1)
  assert.equal(pragma('user_version'), 1)
  for (const file of readdirSync(home.state))
    assert.equal(statSync(join(home.state, file)).mode & 0o777, 0o600, file)
  database.close()
})

test('migrations run once each and in order, and what was stored stays', t => {
  const home = temporaryHome(t)
  const before = openState({ home, name: 'guard', migrations: [first] })
  before.exec("INSERT INTO bans (cidr) VALUES ('10.0.0.0/8')")
  before.close()
  for (let i = 0; i < 2; i++) {
    const after = openState({ home, name: 'guard', migrations: [first, second] })
    assert.deepEqual({ ...after.prepare('SELECT * FROM bans').get() }, { cidr: '10.0.0.0/8', reason: null })
    after.close()
  }
})

test('a migration that fails leaves the file as it was', t => {
  const home = temporaryHome(t)
  openState({ home, name: 'guard', migrations: [first] }).close()
  const broken = [first, second, 'CREATE TABLE nonsense (']
  assert.throws(() => openState({ home, name: 'guard', migrations: broken }), codeIs('STATE_UNUSABLE'))
  const database = openState({ home, name: 'guard', migrations: [first, second] })
  assert.equal(database.prepare('PRAGMA user_version').get()?.user_version, 2)
  database.close()
})

test('a file of a newer program and a file that is no database are refused with their path', t => {
  const home = temporaryHome(t)
  openState({ home, name: 'guard', migrations: [first, second] }).close()
  assert.throws(
    () => openState({ home, name: 'guard', migrations: [first] }),
    /guard\.sqlite.*version 2.*knows 1/,
  )
  writeFileSync(join(home.state, 'junk.sqlite'), 'this is no database, just a text that is long enough')
  assert.throws(() => openState({ home, name: 'junk', migrations: [first] }), codeIs('STATE_UNUSABLE'))
})

test("two openers of one file see each other's commits", t => {
  const home = temporaryHome(t)
  const a = openState({ home, name: 'guard', migrations: [first] })
  const b = openState({ home, name: 'guard', migrations: [first] })
  inTransaction(a, () => a.exec("INSERT INTO bans VALUES ('::1/128')"))
  assert.equal(b.prepare('SELECT count(*) AS n FROM bans').get()?.n, 1)
  a.close()
  b.close()
})

test('an exception rolls the transaction back and rises', t => {
  const database = openState({ home: temporaryHome(t), name: 'guard', migrations: [first] })
  assert.throws(
    () =>
      inTransaction(database, () => {
        database.exec("INSERT INTO bans VALUES ('::1/128')")
        throw new Error('changed my mind')
      }),
    /changed my mind/,
  )
  assert.equal(database.prepare('SELECT count(*) AS n FROM bans').get()?.n, 0)
  assert.equal(
    inTransaction(database, () => 5),
    5,
  )
  database.close()
})
