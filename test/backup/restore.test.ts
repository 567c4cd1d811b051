import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { previewRestore } from '#backup/restore/preview.ts'
import type { RestoreProgress } from '#backup/restore/restore.ts'
import { parseRequest, type TargetOptions } from '#backup/restore/target.ts'
import { systemClock } from '#lib/clock.ts'
import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { readRecoveredFile, removeRecoveredFile } from '#postgres/server/recovered-file.ts'
import { liveReaders } from '#storage/readers.ts'
import { debianBin, noDebian } from '#test/backup/archiving.ts'
import {
  idsIn,
  type Original,
  original,
  restoreTarget,
  tablespaceDirectory,
  valuesFrom,
} from '#test/backup/restoring.ts'
import { newNode } from '#test/postgres-node.ts'
import { testDirectory, testProgram } from '#test/unprivileged.ts'

const versions = [
  { name: 'embedded PostgreSQL 18', bin: undefined, skip: false as false | string },
  { name: "Debian's PostgreSQL 15", bin: debianBin, skip: noDebian },
]

for (const { name, bin, skip } of versions) {
  test(`restores on ${name}`, { skip }, async suite => {
    const from = await original(suite, bin)
    const { server } = from
    await server.query(`CREATE TABLESPACE elsewhere LOCATION '${tablespaceDirectory(suite)}'`)
    await server.query('CREATE TABLE far (id int) TABLESPACE elsewhere; INSERT INTO far VALUES (7)')
    await server.query("ALTER SYSTEM SET primary_conninfo = 'host=elsewhere password=secret'")
    await from.commit(1)
    await from.backup()
    const two = await from.commit(2)
    await from.point('between')
    const three = await from.commit(3)
    const second = await from.backup('db')
    const four = await from.commit(4)
    await server.write(20 * 1024 * 1024)
    const five = await from.commit(5)
    await from.archived()

    await suite.test('latest has every row that the archive has on disk, in a home that starts', async t => {
      const home = restoreTarget(t)
      const progress: RestoreProgress[] = []
      const result = await from.restore(home, {}, { onProgress: one => progress.push(one) })
      assert.deepEqual([result.backupId, result.target], [second.id, 'latest'])
      assert.equal(result.timeline, 2)
      assert.ok(Date.parse(result.lastCommitAt ?? '') <= Date.parse(five.after))
      checkHome(home, result.backupId)
      assert.deepEqual(await idsIn(t, home, bin), [1, 2, 3, 4, 5])
      checkProgress(progress)
    })

    const targets: Array<[words: string, target: () => Parameters<Original['restore']>[1], ids: number[]]> = [
      ['a time between two commits has exactly the first', () => ({ time: two.after }), [1, 2]],
      ['a time after the second backup begins with it', () => ({ time: four.after }), [1, 2, 3, 4]],
      ['an LSN has what was committed before it', () => ({ lsn: three.lsn }), [1, 2, 3]],
      ['a named point has what was committed before it', () => ({ name: 'between' }), [1, 2]],
    ]
    // The log is handed out alike for both; one of them shows each kind of target.
    for (const [words, target, ids] of bin === undefined ? targets : targets.slice(0, 1)) {
      await suite.test(words, async t => {
        const home = restoreTarget(t)
        await from.restore(home, target())
        assert.deepEqual(await idsIn(t, home, bin), ids)
      })
    }

    await suite.test('an older backup by its id, with its tablespace below the new home', async t => {
      const home = restoreTarget(t)
      const first = (await from.place.repository.backups())[0]?.id ?? ''
      await from.restore(home, { id: first })
      assert.deepEqual(
        await idsIn(t, home, bin, 'SELECT id FROM far UNION ALL SELECT id::int FROM kept'),
        [7, 1, 2, 3, 4, 5],
      )
      const links = join(home, 'postgres', 'node-a', 'pg_tblspc')
      const [oid = ''] = readdirSync(links)
      assert.equal(readlinkSync(join(links, oid)), join(home, 'postgres', 'tablespaces', oid))
    })
  })
}

/** What belongs to the original's place stays there, and nothing is the superuser's. */
function checkHome(home: string, backupId: string): void {
  const data = join(home, 'postgres', 'node-a')
  assert.ok(!existsSync(join(home, 'RESTORE_INCOMPLETE')))
  assert.deepEqual(readdirSync(join(home, 'postgres')).sort(), ['node-a', 'tablespaces'])
  assert.equal(readRecoveredFile(data)?.backupId, backupId)
  const configured = ['postgresql.conf', 'postgresql.auto.conf', 'pg_hba.conf']
    .map(file => readFileSync(join(data, file), 'utf8'))
    .join('\n')
  assert.ok(!/secret|restore_command\s*=|recovery_target/.test(configured.replaceAll(/^#.*$/gm, '')))
  for (const file of ['recovery.signal', 'standby.signal', 'postmaster.pid', 'moonyetis.conf'])
    assert.ok(!existsSync(join(data, file)), file)
  assert.ok(existsSync(join(home, '.secrets', 'backup_recipient')))
  const { runAs } = testProgram()
  for (const path of [home, data, join(data, 'PG_VERSION'), join(home, '.secrets', 'backup_recipient')])
    assert.equal(statSync(path).uid, runAs?.uid ?? process.getuid?.(), path)
  assert.equal(statSync(data).mode & 0o777, 0o700)
}

function checkProgress(progress: readonly RestoreProgress[]): void {
  const phases = [...new Set(progress.map(one => one.phase))]
  assert.deepEqual(phases, ['choose', 'files', 'lay', 'replay', 'finish'])
  const laid = progress.findLast(one => one.phase === 'lay')
  assert.equal(laid?.bytesDone, laid?.bytesTotal)
  const replayed = progress.findLast(one => one.phase === 'replay')
  assert.equal(replayed?.segmentsDone, replayed?.segmentsTotal)
}

test('a preview says what a restore would do, and writes nothing', async t => {
  const from = await original(t)
  await from.commit(1)
  const marker = await from.backup()
  const last = await from.commit(2)
  await from.archived()
  const directory = restoreTarget(t)
  const { repository, pool, spool } = from.place
  const request = parseRequest({}, 'UTC')
  const preview = await previewRestore({ repository, pool, spool, directory, request, now: new Date() })
  assert.ok(!existsSync(directory))
  assert.equal(preview.backup.id, marker.id)
  assert.deepEqual([preview.timelines, preview.keysHere], [[1], true])
  assert.ok(preview.wal.segments >= 1 && preview.freeBytes > 0 && preview.neededBytes > preview.bytes)
  const commitAt = Date.parse(preview.lastCommitAt ?? '')
  assert.ok(commitAt <= Date.parse(last.after) && commitAt > Date.parse(marker.database?.stopTime ?? ''))
  assert.deepEqual(await liveReaders(repository.storage, 'readers/', systemClock), [])
})

test('a directory with something in it is left alone', async t => {
  const from = await original(t)
  const directory = testDirectory(t)
  writeFileSync(join(directory, 'precious'), 'x')
  await assert.rejects(from.restore(directory), { code: 'RESTORE_NOT_EMPTY' })
  assert.deepEqual(readdirSync(directory), ['precious'])
})

test('a restored database goes on in the same repository, and the next restore follows it', async t => {
  const from = await original(t)
  await from.commit(1)
  await from.backup()
  await from.commit(2)
  await from.archived()
  await from.archiver.stop()
  await from.server.node.stop({ mode: 'immediate', withinMs: 5_000 })
  const first = restoreTarget(t)
  await from.restore(first)

  await goOn(t, from, first, 3)
  const second = restoreTarget(t)
  const { timeline } = await from.restore(second)
  assert.equal(timeline, 3)
  assert.deepEqual(await idsIn(t, second), [1, 2, 3])
  const older = restoreTarget(t)
  await from.restore(older, { timeline: 1 })
  assert.deepEqual(await idsIn(t, older), [1, 2])
})

test('a time that lies on a timeline which a restore has left asks which one is meant', async t => {
  const from = await original(t)
  await from.commit(1)
  await from.backup()
  const two = await from.commit(2)
  const three = await from.commit(3)
  await from.commit(4)
  await from.archived()
  await from.archiver.stop()
  await from.server.node.stop({ mode: 'immediate', withinMs: 5_000 })
  const first = restoreTarget(t)
  await from.restore(first, { lsn: two.lsn })
  await goOn(t, from, first, 5)

  const directory = restoreTarget(t)
  await assert.rejects(from.restore(directory, { time: three.after }), {
    code: 'RESTORE_TIMELINE_NEEDED',
    message: /timeline 1 parts from timeline 2 at .* --timeline 2 \(.*--timeline 1 \(/,
  })
  assert.ok(!existsSync(directory))
  const timelines = async (target: TargetOptions) => {
    const { repository, pool, spool } = from.place
    const request = parseRequest(target, 'UTC')
    return (await previewRestore({ repository, pool, spool, directory, request, now: new Date() })).timelines
  }
  // What is the same on both, what only one goes on to, and what was asked for.
  assert.deepEqual(await timelines({ time: two.after }), [1, 2])
  assert.deepEqual(await timelines({}), [1, 2])
  assert.deepEqual(await timelines({ time: three.after, timeline: 1 }), [1])
})

/** Starts a restored home, archives one more row of it, and stops the archive. */
async function goOn(t: TestContext, from: Original, home: string, id: number): Promise<void> {
  const dataDirectory = join(home, 'postgres', 'node-a')
  removeRecoveredFile(dataDirectory)
  const node = newNode(t, { directory: testDirectory(t), dataDirectory })
  await node.start(30_000)
  const archiver = from.place.archiver(node)
  await archiver.start()
  await valuesFrom(node, `INSERT INTO kept VALUES (${id})`)
  const [written] = await valuesFrom(node, 'SELECT pg_current_wal_flush_lsn()::text')
  await archiver.untilStored(parseLsn(String(written)) as Lsn, 20_000)
  await archiver.stop()
}
