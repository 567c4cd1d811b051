import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, test } from 'node:test'
import { manualClock } from '#lib/clock.ts'
import { type Home, openHome } from '#lib/home.ts'
import { Journal } from './journal.ts'

let home: Home
let journal: Journal
const event = { actor: 'cli:ana', action: 'token.created', target: 't1', detail: { role: 'admin' } }

beforeEach(() => {
  home = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-audit-')))
  journal = new Journal({ home, clock: manualClock() })
})

afterEach(() => {
  journal.close()
  rmSync(home.root, { recursive: true, force: true })
})

/** As somebody with the file and without our program. */
function tamper(sql: string): void {
  const database = new DatabaseSync(join(home.state, 'audit.sqlite'))
  database.exec(sql)
  database.close()
}

test('events are chained and read back as recorded', () => {
  const first = journal.record(event)
  const second = journal.record({ ...event, action: 'token.revoked' })
  assert.equal(first.previousHash, '0'.repeat(64))
  assert.equal(second.previousHash, first.hash)
  assert.deepEqual(journal.after(0, 10), [first, second])
  assert.deepEqual(journal.after(1, 10), [second])
  assert.deepEqual(journal.verify(), { whole: true, events: 2, lastHash: second.hash })
})

test('the chain goes on after a restart, under the same name', () => {
  journal.record(event)
  const again = new Journal({ home })
  again.record(event)
  assert.equal(again.source, journal.source)
  assert.equal(again.verify().whole, true)
  again.close()
})

test('the file refuses to change or drop an event', () => {
  journal.record(event)
  assert.throws(() => tamper("UPDATE events SET actor = 'x'"), /append-only/)
  assert.throws(() => tamper('DELETE FROM events'), /append-only/)
  assert.throws(() => tamper('REPLACE INTO events SELECT * FROM events'), /append-only/)
})

const unlocked = 'DROP TRIGGER events_no_update; DROP TRIGGER events_no_delete;'
const attacks: [string, string, { sequence: number; problem: RegExp }][] = [
  [
    'a changed event',
    "UPDATE events SET actor = 'x' WHERE sequence = 2",
    { sequence: 2, problem: /changed/ },
  ],
  ['a removed event', 'DELETE FROM events WHERE sequence = 2', { sequence: 2, problem: /missing/ }],
  ['a replaced hash', "UPDATE events SET hash = 'x' WHERE sequence = 1", { sequence: 1, problem: /changed/ }],
  [
    'two events in each other’s place',
    `UPDATE events SET sequence = 9 WHERE sequence = 2; UPDATE events SET sequence = 2 WHERE sequence = 3;
     UPDATE events SET sequence = 3 WHERE sequence = 9`,
    { sequence: 2, problem: /does not follow/ },
  ],
  [
    'a broken detail',
    "UPDATE events SET detail = '{' WHERE sequence = 3",
    { sequence: 3, problem: /not JSON/ },
  ],
]
for (const [name, sql, expected] of attacks) {
  test(`verify finds ${name}`, () => {
    for (let i = 0; i < 4; i++) journal.record({ ...event, target: `t${i}` })
    tamper(unlocked + sql)
    const verdict = journal.verify()
    assert.ok(!verdict.whole)
    assert.equal(verdict.sequence, expected.sequence)
    assert.match(verdict.problem, expected.problem)
  })
}

test('several processes write one journal without a gap or a fork', async () => {
  const program = `
    import { openHome } from '#lib/home.ts'
    import { Journal } from '#audit/journal.ts'
    const journal = new Journal({ home: openHome(process.argv[1]) })
    for (let i = 0; i < 50; i++) journal.record({ actor: String(process.pid), action: 'x', target: '', detail: { i } })
    journal.close()`
  const writers = [1, 2, 3].map(() =>
    fork(home.root, { execArgv: ['--input-type=module', '--eval', program], cwd: import.meta.dirname }),
  )
  const codes = await Promise.all(writers.map(async writer => (await once(writer, 'exit'))[0]))
  assert.deepEqual(codes, [0, 0, 0])
  const verdict = journal.verify()
  assert.ok(verdict.whole)
  assert.equal(verdict.events, 150)
})

test('a journal that cannot be written is a failure with its cause', () => {
  journal.close()
  const broken = new Journal({ home })
  tamper('DROP TABLE events')
  assert.throws(() => broken.record(event), { code: 'AUDIT_UNAVAILABLE' })
  broken.close()
  journal = new Journal({ home, name: 'other' })
})
