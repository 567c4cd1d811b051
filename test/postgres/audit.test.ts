import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Copier } from '#audit/copier.ts'
import { type Detail, hashEvent } from '#audit/event.ts'
import { Journal } from '#audit/journal.ts'
import { auditMetrics } from '#audit/metrics.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { Database } from '#postgres/client/database.ts'
import { type TestDatabase, withDatabase } from '#test/database.ts'

function openParts(t: TestContext, database: TestDatabase) {
  const home = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-audit-')))
  const journal = new Journal({ home })
  const app = new Database({ target: database.target('app'), applicationName: 'test', log: silentLog })
  const newCopier = () =>
    new Copier({ journal, database: app, metrics: auditMetrics(createMetrics()), log: silentLog })
  t.after(async () => {
    await app.close()
    journal.close()
    rmSync(home.root, { recursive: true, force: true })
  })
  return { journal, app, newCopier }
}

interface StoredRow extends Record<string, unknown> {
  source: string
  sequence: bigint
  recorded_at: Date
  actor: string
  action: string
  target: string
  detail: Detail
  previous_hash: string
  hash: string
}

test('the copy in the database still proves its own chain', async t => {
  const database = await withDatabase(t)
  const { journal, newCopier } = openParts(t, database)
  const detail = { z: 1, a: 0.1, big: 1e21, text: 'ü\u0000\ud800"', list: [null, true, { y: 1, x: 2 }] }
  for (let i = 0; i < 120; i++) journal.record({ actor: 'system', action: 'tried', target: `t${i}`, detail })
  assert.equal(await newCopier().copy(), 120)
  const rows = await database.query<StoredRow>('SELECT * FROM audit_events ORDER BY sequence')
  assert.equal(rows.length, 120)
  let previousHash = '0'.repeat(64)
  for (const row of rows) {
    const { actor, action, target } = row
    const recordedAt = row.recorded_at.toISOString()
    const event = {
      sequence: Number(row.sequence),
      recordedAt,
      actor,
      action,
      target,
      detail: row.detail,
      previousHash,
    }
    assert.equal(hashEvent(event), row.hash)
    assert.equal(row.previous_hash, previousHash)
    previousHash = row.hash
  }
})

test('copying again, or from a second copier at the same time, doubles nothing', async t => {
  const database = await withDatabase(t)
  const { journal, newCopier } = openParts(t, database)
  const record = () => journal.record({ actor: 'a', action: 'b', target: 'c', detail: {} })
  for (let i = 0; i < 150; i++) record()
  await Promise.all([newCopier().copy(), newCopier().copy()])
  record()
  assert.equal(await newCopier().copy(), 1)
  const rows = await database.query('SELECT count(*), max(sequence) FROM audit_events')
  assert.deepEqual(rows, [{ count: 151n, max: 151n }])
})

test('two journals do not get in each other’s way', async t => {
  const database = await withDatabase(t)
  for (const parts of [openParts(t, database), openParts(t, database)]) {
    parts.journal.record({ actor: 'a', action: 'b', target: 'c', detail: {} })
    assert.equal(await parts.newCopier().copy(), 1)
  }
  const rows = await database.query('SELECT count(DISTINCT source) AS sources FROM audit_events')
  assert.deepEqual(rows, [{ sources: 2n }])
})

test('the application can add to the copy and change nothing in it', async t => {
  const database = await withDatabase(t)
  const { journal, app, newCopier } = openParts(t, database)
  journal.record({ actor: 'a', action: 'b', target: 'c', detail: {} })
  await newCopier().copy()
  for (const sql of [
    "UPDATE audit_events SET actor = 'x'",
    'DELETE FROM audit_events',
    'TRUNCATE audit_events',
  ]) {
    await assert.rejects(app.query(sql), { code: '42501' })
    await assert.rejects(database.query(sql), { code: 'MY001' })
  }
})
