import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { before, describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Connect } from '#backup/base/base-backup.ts'
import { sweepIncomplete } from '#backup/base/complete.ts'
import { layout } from '#backup/layout.ts'
import { verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { superuserName } from '#postgres/server/access.ts'
import type { BaseBackupSink } from '#postgres/wire/connection.ts'
import { type ArchivedServer, archivedServer } from '#test/backup/archiving.ts'
import { type BackupPlace, backupPlace, connectorTo, databaseAccess } from '#test/backup/backing-up.ts'
import type { ProcessOptions } from '#test/backup/backup-process.ts'
import { failOn, type StorageMishap } from '#test/storage/faulty.ts'
import { cleanUp, testDirectory } from '#test/unprivileged.ts'
import { until } from '#test/until.ts'

let server: ArchivedServer
before(async () => {
  const undo: (() => unknown)[] = []
  process.once('exit', () => undo.map(work => work()))
  server = await archivedServer({ after: work => void undo.push(work as () => unknown) })
  // Enough for more than one pack, of bytes that do not compress.
  const row = "(SELECT string_agg(sha512((g * 100 + i)::text::bytea), '') FROM generate_series(1, 100) i)"
  await server.query(`CREATE TABLE noise AS SELECT ${row} AS bytes FROM generate_series(1, 2500) g`)
})

async function failureOf(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  return work.then(
    () => assert.fail('it should have failed'),
    error => error,
  )
}

async function assertNothing(place: BackupPlace): Promise<void> {
  assert.deepEqual(await place.repository.backups(), [])
  assert.deepEqual(await place.stored(), [])
}

/** Connections on which the bytes of a base backup go through `change` first. */
function tapped(change: (sink: BaseBackupSink) => BaseBackupSink): Connect {
  const connect = connectorTo(server.node)
  return async options => {
    const connection = await connect(options)
    const baseBackup = connection.baseBackup.bind(connection)
    connection.baseBackup = (command, sink) => baseBackup(command, change(sink))
    return connection
  }
}

describe('a stream that is not what the server sent', () => {
  test('one flipped byte is found, and its file is named', async t => {
    const place = await backupPlace(t)
    let messages = 0
    const flip = (sink: BaseBackupSink): BaseBackupSink => ({
      ...sink,
      data: bytes => {
        // The server reads files by 32 KiB; headers and padding come in smaller messages.
        if (bytes.length === 32_768 && ++messages === 100) bytes[77] = (bytes[77] as number) ^ 1
        return sink.data(bytes)
      },
    })
    const database = databaseAccess(server.node, tapped(flip))
    const failure = await failureOf(place.backup(server.node, { kind: 'db', database }))
    assert.equal(failure.code, 'BACKUP_STREAM_WRONG')
    assert.match(failure.message, /says of it: base\/\d+\/\d+ does not fit its checksum\./)
    await assertNothing(place)
  })

  test('a changed manifest is found by its own checksum', async t => {
    const place = await backupPlace(t)
    const flip = (sink: BaseBackupSink): BaseBackupSink => ({
      ...sink,
      manifestData: bytes => {
        const at = bytes.indexOf('"Size": ')
        if (at !== -1) bytes[at + 8] = 0x39
        sink.manifestData(bytes)
      },
    })
    const database = databaseAccess(server.node, tapped(flip))
    const { code } = await failureOf(place.backup(server.node, { kind: 'db', database }))
    assert.equal(code, 'MANIFEST_INVALID')
    await assertNothing(place)
  })

  test('a page that does not fit its checksum fails the backup in the words of the server', async t => {
    const own = await archivedServer(t)
    await own.query('CREATE TABLE spoilt AS SELECT generate_series(1, 10000) AS n')
    await own.query('CHECKPOINT')
    const [row] = await own.query<{ path: string }>("SELECT pg_relation_filepath('spoilt') AS path")
    flipByte(join(own.node.dataDirectory, row?.path ?? ''), 5 * 8192 + 4000)
    const place = await backupPlace(t)
    const failure = await failureOf(place.backup(own.node, { kind: 'db' }))
    assert.equal(failure.code, 'WIRE_PAGES_DAMAGED')
    assert.match(failure.message, /checksum/)
    await assertNothing(place)
  })
})

function flipByte(file: string, at: number): void {
  const fd = openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, at)
  writeSync(fd, Buffer.from([(byte[0] as number) ^ 0xff]), 0, 1, at)
  closeSync(fd)
}

describe('a storage that fails', () => {
  const mishaps: [name: string, key: RegExp, mishap: StorageMishap, code: string][] = [
    ['that refuses the first pack', /base\/000000$/, { kind: 'error' }, 'STORAGE_UNAVAILABLE'],
    [
      'that is full at the second pack',
      /base\/000001$/,
      { kind: 'error', code: 'STORAGE_FULL' },
      'STORAGE_FULL',
    ],
    ['that refuses the manifest', /manifest$/, { kind: 'error' }, 'STORAGE_UNAVAILABLE'],
    ['that refuses the marker', /COMPLETE$/, { kind: 'error' }, 'STORAGE_UNAVAILABLE'],
    ['that stores half of a pack', /base\/000001$/, { kind: 'truncate', bytes: 1_000_000 }, 'BACKUP_'],
    ['that stores half of the manifest', /manifest$/, { kind: 'truncate', bytes: 1_000 }, 'BACKUP_'],
  ]
  for (const [name, key, mishap, code] of mishaps) {
    test(`one ${name} leaves nothing complete and nothing else`, async t => {
      const place = await backupPlace(t)
      place.storage.plan = failOn({ operation: 'putNew', key, mishap })
      const failure = await failureOf(place.backup(server.node))
      assert(failure.code.startsWith(code), `${failure.code}: ${failure.message}`)
      place.storage.plan = () => undefined
      await assertNothing(place)
    })
  }

  test('a wrong bit in the pack that is read again is found before the marker is written', async t => {
    const place = await backupPlace(t)
    place.storage.plan = failOn({
      operation: 'putNew',
      key: /base\/|manifest|files/,
      mishap: { kind: 'flip' },
    })
    const { code } = await failureOf(place.backup(server.node))
    assert.equal(code, 'BACKUP_OBJECT_DAMAGED')
    await assertNothing(place)
  })

  test('while it stalls the server is kept waiting, and afterwards the backup goes on', async t => {
    const place = await backupPlace(t)
    let done = 0
    let complete = false
    place.storage.plan = failOn({ operation: 'putNew', key: /base\//, mishap: { kind: 'stall' } })
    const count = (sink: BaseBackupSink): BaseBackupSink => ({
      ...sink,
      data: bytes => {
        done += bytes.length
        return sink.data(bytes)
      },
    })
    const database = databaseAccess(server.node, tapped(count))
    const backup = place.backup(server.node, { kind: 'db', database }).then(ran => {
      complete = true
      return ran
    })
    await until(() => place.storage.stalled === 2 || complete, 30_000)
    assert.equal(complete, false)
    place.storage.plan = () => undefined
    place.storage.release()
    const { marker } = await backup
    assert.equal(marker.rawBytes, done)
  })
})

describe('a backup that is ended', () => {
  test('by cancelling, it leaves nothing, and the next one can begin at once', async t => {
    const place = await backupPlace(t)
    for (const phase of ['checkpoint', 'data', 'wal', 'completing']) {
      const cancel = new AbortController()
      const onProgress = (progress: { phase: string }) => {
        if (progress.phase === phase) cancel.abort()
      }
      const audited: string[] = []
      const audit = async (event: { outcome: string }) => void audited.push(event.outcome)
      const ran = place.backup(server.node, { signal: cancel.signal, onProgress, audit })
      assert.equal((await failureOf(ran)).code, 'BACKUP_CANCELLED', phase)
      assert.deepEqual(audited, ['cancelled'])
      await assertNothing(place)
    }
    assert.equal((await place.backup(server.node)).outcome, 'done')
  })

  test('by cancelling while the archive is still behind, it does not wait for that', async t => {
    const place = await backupPlace(t)
    const cancel = new AbortController()
    const untilStored = () => {
      setImmediate(() => cancel.abort())
      return new Promise<void>(() => {})
    }
    const database = { ...databaseAccess(server.node), untilStored }
    const ran = place.backup(server.node, { kind: 'db', database, signal: cancel.signal })
    assert.equal((await failureOf(ran)).code, 'BACKUP_CANCELLED')
    await assertNothing(place)
  })

  test('by kill -9 at any moment, what is complete is whole, and the next one takes over and tidies up', async t => {
    const place = await backupPlace(t)
    for (const afterMs of [0, 60 + Math.random() * 200, 260 + Math.random() * 400]) {
      const child = await spawnBackup(t, place)
      await delay(afterMs)
      child.kill('SIGKILL')
      await once(child, 'exit')
      for (const { id } of await place.repository.backups()) {
        const { faults } = await verify({ repository: place.repository, id, clock: systemClock })
        assert.deepEqual(faults, [], `killed after ${afterMs} ms`)
      }
    }
    const left = await place.stored()
    assert(left.length > 0, 'the kills came too early to leave anything')
    const { marker } = await oncePassedOver(() => place.backup(server.node))
    const { repository } = place
    await sweepIncomplete({ repository, now: new Date(), graceMs: 0 })
    const complete = (await repository.backups()).map(one => layout.backup(one.id))
    assert.equal(complete.at(-1), layout.backup(marker.id))
    const stray = (await place.stored()).filter(key => !complete.some(prefix => key.startsWith(prefix)))
    assert.deepEqual(stray, [])
  })
})

// As long as a dead one stands in the way.
const leaseMs = 2_000

/** A backup in a process of its own, which has come to its first checkpoint. */
async function spawnBackup(t: TestContext, place: BackupPlace): Promise<ChildProcess> {
  const script = join(import.meta.dirname, '..', 'helpers', 'backup', 'backup-process.ts')
  const sql = server.node.connection({ user: superuserName, database: 'postgres' })
  const options: ProcessOptions = { directory: place.directory, server: sql, leaseMs, threads: 1 }
  return oncePassedOver(async () => {
    const child = spawn(process.execPath, [script, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    cleanUp(t, () => child.kill('SIGKILL'))
    for await (const line of createInterface({ input: child.stdout })) {
      const { progress, failed } = JSON.parse(line)
      if (failed) throw failed
      if (progress?.phase === 'checkpoint') return child
    }
    return assert.fail('it ended without a word')
  })
}

/** The lease of a holder that was killed ends by itself. */
async function oncePassedOver<T>(work: () => Promise<T>): Promise<T> {
  const deadlineMs = performance.now() + 60_000
  for (;;) {
    try {
      return await work()
    } catch (error) {
      // On a machine that stands still a short lease may be lost as well.
      const isPassing = ['BACKUP_BUSY', 'LEASE_LOST'].includes((error as { code: string }).code)
      if (!isPassing || performance.now() > deadlineMs) throw error
      await delay(200)
    }
  }
}

describe('two at once', () => {
  test('make one backup, and the other one is told who is at work', async t => {
    const place = await backupPlace(t)
    const both = await Promise.allSettled([place.backup(server.node), place.backup(server.node)])
    const failures = both.filter(one => one.status === 'rejected').map(one => one.reason)
    assert.equal(failures.length, 1)
    assert.equal(failures[0].code, 'BACKUP_BUSY')
    assert.match(failures[0].message, /is held by test, pid \d+ since/)
    assert.equal((await place.repository.backups()).length, 1)
  })

  test('of one schedule make one backup: the later one finds it done', async t => {
    const place = await backupPlace(t)
    const dueAt = new Date()
    const first = await place.backup(server.node, { dueAt })
    const second = await place.backup(server.node, { dueAt })
    assert.deepEqual([first.outcome, second.outcome], ['done', 'skipped'])
    assert.equal(second.marker.id, first.marker.id)
    assert.equal((await place.backup(server.node, { dueAt: new Date() })).outcome, 'done')
  })

  test('one that was passed over while it slept does not make its backup count', async t => {
    const place = await backupPlace(t)
    const usual = databaseAccess(server.node)
    const databaseTime = async () => {
      // What a newer holder would have written while this process stood still.
      await place.storage.putNew(layout.lock('backup', 99), [Buffer.from('{}')])
      return usual.databaseTime()
    }
    const database = { ...usual, databaseTime }
    const { code } = await failureOf(place.backup(server.node, { kind: 'db', database }))
    assert.equal(code, 'LEASE_LOST')
    assert.deepEqual(await place.repository.backups(), [])
  })
})

describe('another database', () => {
  test('is not backed up into the repository of the first', async t => {
    const place = await backupPlace(t)
    await place.storage.putNew(layout.segment('7711677056603304589', '000000010000000000000001'), [
      Buffer.from('x'),
    ])
    const { code } = await failureOf(place.backup(server.node, { kind: 'db' }))
    assert.equal(code, 'BACKUP_WRONG_SYSTEM')
  })
})

const noMount = process.getuid?.() === 0 ? false : 'needs root, to mount a small tmpfs: run the tests as root'

describe('a repository on a disk that fills up', { skip: noMount }, () => {
  test('has no backup, and room again', async t => {
    const directory = join(testDirectory(t), 'small')
    mkdirSync(directory)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', directory])
    cleanUp(t, () => execFileSync('umount', [directory]))
    const place = await backupPlace(t, { directory })
    assert.equal((await failureOf(place.backup(server.node))).code, 'STORAGE_FULL')
    await assertNothing(place)
    assert.equal((await place.backup(undefined, { kind: 'files' })).outcome, 'done')
  })
})
