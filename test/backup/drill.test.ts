import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { writeCanary } from '#backup/canary.ts'
import { type DrillOptions, drill } from '#backup/drill/drill.ts'
import { layout } from '#backup/layout.ts'
import type { DrillReport } from '#backup/model.ts'
import { processStartTime } from '#lib/processes.ts'
import { databaseName, superuserName } from '#postgres/server/access.ts'
import { debianBin, noDebian } from '#test/backup/archiving.ts'
import { type Original, original, restoreOptions } from '#test/backup/restoring.ts'
import { withClient } from '#test/postgres-node.ts'
import { failOn } from '#test/storage/faulty.ts'
import { testDirectory } from '#test/unprivileged.ts'

/** The part of the schema that a drill looks for. */
const canarySql = `
  CREATE TABLE canary (only_row boolean PRIMARY KEY DEFAULT true, sequence bigint, at timestamptz, lsn pg_lsn);
  INSERT INTO canary VALUES (true, 0, now(), pg_current_wal_insert_lsn());
  CREATE FUNCTION write_canary(OUT sequence bigint, OUT at timestamptz, OUT lsn pg_lsn) LANGUAGE plpgsql AS $$
  BEGIN
    UPDATE canary c SET sequence = c.sequence + 1, at = clock_timestamp(), lsn = pg_current_wal_insert_lsn()
      RETURNING c.sequence, c.at INTO STRICT write_canary.sequence, write_canary.at;
    lsn := pg_current_wal_insert_lsn();
  END $$;
  CREATE TABLE big AS SELECT i, repeat(md5(i::text), 4) AS text FROM generate_series(1, 20000) i;
  ALTER TABLE big ADD PRIMARY KEY (i)`

interface Drilled extends Original {
  drill(more?: Partial<DrillOptions>): Promise<DrillReport>
  scratch: string
}

async function drilled(t: Parameters<typeof original>[0], bin?: string): Promise<Drilled> {
  const from = await original(t, bin)
  const { server, place, archiver } = from
  await server.query(`CREATE DATABASE ${databaseName}`)
  const target = server.node.connection({ user: superuserName, database: databaseName })
  await withClient(target, client => client.query(canarySql))
  const directory = testDirectory(t)
  const scratch = join(directory, 'scratch')
  const { binaries, runAs, log, clock } = restoreOptions({ ...place, bin, directory })
  const options: DrillOptions = {
    repository: place.repository,
    pool: place.pool,
    spool: place.spool,
    scratch,
    canary: {
      write: () => writeCanary(target),
      untilStored: lsn => archiver.untilFlushed(lsn, 20_000),
    },
    checkBooks: async connection => {
      const { rows } = await withClient(connection, client =>
        client.query('SELECT count(*)::int AS n FROM big'),
      )
      return { ok: rows[0]?.n === 20_000, detail: `${rows[0]?.n} rows` }
    },
    ...{ binaries, runAs, log, clock },
  }
  return { ...from, scratch, drill: more => drill({ ...options, ...more }) }
}

const versions = [
  { name: 'embedded PostgreSQL 18', bin: undefined, skip: false as false | string },
  { name: "Debian's PostgreSQL 15", bin: debianBin, skip: noDebian },
]

for (const { name, bin, skip } of versions) {
  test(`a drill on ${name} proves a backup and leaves nothing but its report`, { skip }, async t => {
    const from = await drilled(t, bin)
    const { id } = await from.backup()
    await from.server.write(20 * 1024 * 1024)
    const report = await from.drill()
    assert.deepEqual(
      report.steps.filter(step => !step.ok),
      [],
    )
    assert.deepEqual(
      report.steps.map(step => step.name),
      [
        ...['write canary', 'choose', 'lay', 'replay', 'consistent', 'canary', 'books', 'amcheck', 'write'],
        ...['stop', 'page checksums', 'delete'],
      ],
    )
    assert.deepEqual([report.ok, report.backupId], [true, id])
    assert.ok(report.rtoSeconds > 0 && report.restoredBytes > 20e6 && report.replayedSegments >= 2)
    assert.ok((report.rpoSeconds ?? 99) < 5)
    const detail = (step: string) => report.steps.find(one => one.name === step)?.detail ?? ''
    assert.match(detail('amcheck'), /^\d{3,} indexes and \d{3,} tables are whole$/)
    assert.match(detail('page checksums'), /^\d{4,} pages in \d{3,} files/)
    assert.deepEqual(readdirSync(from.scratch), [])
    const stored = await from.place.repository.readSigned<DrillReport>(layout.report('drill', report.id))
    assert.deepEqual(stored, report)
  })
}

test('a drill fails by the step that found it', async suite => {
  const from = await drilled(suite)
  const { place, archiver, server } = from
  const marker = await from.backup()
  await server.write(40 * 1024 * 1024)
  const system = marker.database?.systemIdentifier ?? ''
  const failed = async (more: Partial<DrillOptions> = {}) => {
    const report = await from.drill(more)
    assert.equal(report.ok, false)
    assert.deepEqual(readdirSync(from.scratch), [])
    const stored = await place.repository.readSigned<DrillReport>(layout.report('drill', report.id))
    assert.equal(stored.ok, false)
    return report.steps.find(step => !step.ok)
  }

  await suite.test('one flipped byte in a segment of the repository', async () => {
    await archiver.untilStored(await server.flushLsn(), 20_000)
    const last = (await Array.fromAsync(place.repository.segments(system, 1))).at(-1)
    assert.ok(last)
    place.storage.plan = failOn({ operation: 'get', key: new RegExp(last.segment), mishap: { kind: 'flip' } })
    const step = await failed()
    place.storage.plan = () => undefined
    assert.equal(step?.name, 'replay')
    assert.match(step?.detail ?? '', new RegExp(`${last.segment} is damaged`))
  })

  await suite.test('books that do not balance', async () => {
    const step = await failed({ checkBooks: async () => ({ ok: false, detail: 'three rounds are wrong' }) })
    assert.deepEqual([step?.name, step?.detail], ['books', 'three rounds are wrong'])
  })

  await suite.test('a canary that was written and does not come back', async () => {
    const canary = { write: async () => ({ sequence: 1_000n, lsn: 0n }), untilStored: async () => {} }
    const step = await failed({ canary })
    assert.equal(step?.name, 'canary')
    assert.match(step?.detail ?? '', /canary 1000 was written and stored, \d+ came back/)
  })

  await suite.test('an archive that does not get there', async () => {
    const canary = {
      write: async () => ({ sequence: 1n, lsn: 0n }),
      untilStored: async () => Promise.reject(new Error('the archive stands still')),
    }
    const step = await failed({ canary })
    assert.deepEqual([step?.name, step?.detail], ['write canary', 'the archive stands still'])
  })

  await suite.test('one that is called off stops, leaves nothing and stores no report', async () => {
    const before = (await Array.fromAsync(place.storage.list(layout.reports('drill')))).length
    const cancel = new AbortController()
    const onProgress = ({ step }: { step: string }) => {
      if (step === 'books') cancel.abort()
    }
    await assert.rejects(from.drill({ signal: cancel.signal, onProgress }), { code: 'RESTORE_CANCELLED' })
    assert.deepEqual(readdirSync(from.scratch), [])
    assert.equal((await Array.fromAsync(place.storage.list(layout.reports('drill')))).length, before)
  })

  await suite.test('a backup that is not there', async () => {
    assert.match((await failed({ backupId: 'nothing' }))?.detail ?? '', /no backup nothing/)
  })

  await suite.test('one flipped byte in the spool', async t => {
    await from.drill()
    await archiver.stop()
    const directory = join(place.spool, system)
    const name = readdirSync(directory).find(one => one.endsWith('.partial')) ?? ''
    const path = join(directory, name)
    const sound = readFileSync(path)
    t.after(() => writeFileSync(path, sound))
    const bytes = Buffer.from(sound)
    const at = bytes.findLastIndex(byte => byte !== 0) - 40
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    writeFileSync(path, bytes)
    const step = await failed({ canary: undefined })
    assert.match(step?.detail ?? '', /cannot be replayed|replay ended/)
  })
})

test('what a killed drill has left is stopped and removed by the next one', async t => {
  const from = await drilled(t)
  await from.backup()
  const left = join(from.scratch, 'drill-000000000000')
  mkdirSync(join(left, 'data'), { recursive: true })
  // A process that has ended.
  const { pid } = spawnSync('true')
  writeFileSync(join(left, 'owner.json'), JSON.stringify({ pid, startTime: 'gone', name: 'drill' }))
  const inUse = join(from.scratch, 'drill-111111111111')
  mkdirSync(inUse)
  const owner = { pid: process.pid, startTime: processStartTime(process.pid), name: 'drill' }
  writeFileSync(join(inUse, 'owner.json'), JSON.stringify(owner))
  const report = await from.drill()
  assert.ok(report.ok, JSON.stringify(report.steps))
  assert.ok(!existsSync(left))
  assert.ok(existsSync(inUse))
})
