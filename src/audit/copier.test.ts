import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { type Home, openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { databaseError } from '#postgres/client/errors.ts'
import { Copier } from './copier.ts'
import type { RecordedEvent } from './event.ts'
import { Journal } from './journal.ts'
import { auditMetrics } from './metrics.ts'

let home: Home
let journal: Journal
let database: FakeDatabase
let copier: Copier

/** Behaves as append_audit_events does; the real one is in test/postgres. */
class FakeDatabase extends EventEmitter {
  stored: RecordedEvent[] = []
  pages: number[] = []
  isAway = false

  async one<T>(_text: string, values: unknown[] = []): Promise<T> {
    if (this.isAway) {
      this.emit('refused')
      throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 })
    }
    const page = JSON.parse(values[1] as string) as RecordedEvent[]
    if (page.length > 0) this.pages.push(page.length)
    const fresh = page.filter(event => !this.stored.some(one => one.sequence === event.sequence))
    this.stored.push(...fresh)
    const highest = Math.max(0, ...this.stored.map(event => event.sequence))
    if (fresh.length > 0) setImmediate(() => this.emit('stored'))
    return { highest: highest === 0 ? null : BigInt(highest) } as T
  }
}

beforeEach(() => {
  home = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-copier-')))
  journal = new Journal({ home })
  database = new FakeDatabase()
  copier = newCopier(60_000)
})

afterEach(async () => {
  await copier.close()
  journal.close()
  rmSync(home.root, { recursive: true, force: true })
})

function newCopier(pollMs: number): Copier {
  const metrics = auditMetrics(createMetrics())
  return new Copier({ journal, database, metrics, log: silentLog, pollMs, firstBackoffMs: 1 })
}

function record(count: number, by: Journal = journal): void {
  for (let i = 0; i < count; i++) by.record({ actor: 'a', action: 'b', target: String(i), detail: {} })
}

test('all events are copied once, in pages, in order', async () => {
  record(250)
  assert.equal(await copier.copy(), 250)
  assert.deepEqual(database.pages, [100, 100, 50])
  assert.deepEqual(database.stored, journal.after(0, 1000))
  assert.equal(await copier.copy(), 0)
})

test('a copier that starts anew goes on where the database ends', async () => {
  record(3)
  await copier.copy()
  record(2)
  assert.equal(await newCopier(60_000).copy(), 2)
  assert.deepEqual(database.pages, [3, 2])
})

test('a database that was restored to an earlier time gets the events again', async () => {
  record(5)
  await copier.copy()
  database.stored.length = 2
  record(1)
  assert.equal(await copier.copy(), 4)
  assert.deepEqual(database.stored, journal.after(0, 10))
})

test('a record of this process is copied without waiting for the poll', async () => {
  copier.start()
  record(1)
  await once(database, 'stored')
  record(1)
  await once(database, 'stored')
  assert.equal(database.stored.length, 2)
})

test('a record of another process is found by the poll', async () => {
  copier = newCopier(5)
  copier.start()
  const other = new Journal({ home })
  record(1, other)
  await once(database, 'stored')
  other.close()
})

test('events wait while the database is away and are copied when it is back', async () => {
  database.isAway = true
  copier.start()
  record(3)
  await once(database, 'refused')
  await once(database, 'refused')
  database.isAway = false
  await once(database, 'stored')
  assert.deepEqual(database.stored, journal.after(0, 10))
})

test('closing copies what is left', async () => {
  copier.start()
  await copier.copy()
  record(2)
  await copier.close()
  assert.equal(database.stored.length, 2)
})

test('closing does not wait for a database that does not answer', async () => {
  database.one = () => new Promise(() => {})
  copier.start()
  record(1)
  await copier.close(10)
  assert.equal(database.stored.length, 0)
})

test('a journal that is older than its copy stops the copying, also the next time', async () => {
  record(1)
  database.stored = [{ ...(journal.after(0, 1)[0] as RecordedEvent), sequence: 7 }]
  for (const _ of [1, 2]) await assert.rejects(copier.copy(), { code: 'AUDIT_JOURNAL_BEHIND' })
  assert.equal(database.pages.length, 0)
})
