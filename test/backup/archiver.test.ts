import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { realFiles, type SpoolFiles } from '#backup/archive/spool-files.ts'
import { layout } from '#backup/layout.ts'
import type { WalFacts } from '#backup/model.ts'
import { formatLsn, parseLsn, parseSegmentName, segmentName } from '#lib/lsn.ts'
import {
  type ArchivedServer,
  archivedServer,
  archivePlace,
  debianBin,
  noDebian,
  startCopy,
} from '#test/backup/archiving.ts'
import { cloneDirectory } from '#test/postgres-node.ts'
import { failOn } from '#test/storage/faulty.ts'
import { cleanUp, testDirectory } from '#test/unprivileged.ts'
import { until } from '#test/until.ts'

const segmentBytes = 16 * 1024 * 1024
const megabyte = 1024 * 1024

for (const { name, bin, skip } of [
  { name: 'the embedded PostgreSQL', bin: undefined, skip: false },
  { name: "Debian's PostgreSQL 15", bin: debianBin, skip: noDebian },
]) {
  describe(`archiving from ${name}`, { skip }, () => {
    test('whole segments reach the repository, byte for byte as the server wrote them', async t => {
      const server = await archivedServer(t, { bin })
      const place = await archivePlace(t)
      const archiver = place.archiver(server.node)
      await archiver.start()
      await until(() => archiver.status().state === 'streaming')
      await server.write(40 * megabyte)
      const end = await server.flushLsn()
      await archiver.untilFlushed(end, 10_000)
      await archiver.untilStored(end, 10_000)
      const { systemIdentifier, lastSegment, timeline } = archiver.status()
      assert.equal(timeline, 1)
      const segments = await Array.fromAsync(place.repository.segments(systemIdentifier as string, 1))
      assert.ok(segments.length >= 2, `${segments.length} segments`)
      assert.equal(segments.at(-1)?.segment, lastSegment)
      for (const { key, segment } of segments) {
        const { bytes, header } = await place.repository.readSealed(key)
        assert.ok(bytes.equals(readFileSync(join(server.node.dataDirectory, 'pg_wal', segment))), segment)
        assert.equal(header.kind, 'wal')
      }
      const tails = await tailsOf(place, systemIdentifier as string)
      const open = segmentName(1, end, segmentBytes)
      assert.deepEqual([...new Set(tails.map(one => one.segment))], [open])
      assert.equal(parseLsn(tails.at(-1)?.end ?? ''), end)
      const spooled = readdirSync(archiver.status().spool.directory as string)
      assert.deepEqual(
        spooled.filter(file => /^[0-9A-F]{24}/.test(file)),
        [`${open}.partial`],
      )
    })

    test('a restart goes on without a gap, and the slot keeps what it has not seen', async t => {
      const server = await archivedServer(t, { bin })
      const place = await archivePlace(t)
      const first = place.archiver(server.node)
      await first.start()
      await until(() => first.status().state === 'streaming')
      await server.write(20 * megabyte)
      await first.stop()
      assert.equal(first.status().state, 'stopped')
      await server.write(40 * megabyte)
      await server.query('CHECKPOINT')
      const second = place.archiver(server.node, { onGap: () => assert.fail('there is no gap') })
      await second.start()
      const end = await server.flushLsn()
      await second.untilStored(end, 20_000)
      await assertContinuous(place, second.status().systemIdentifier as string)
      const [slot] = await server.query('SELECT active, wal_status FROM pg_replication_slots')
      assert.deepEqual(slot, { active: true, wal_status: 'reserved' })
    })

    test('as synchronous standby it lets a commit return when its WAL is on disk here', async t => {
      const server = await archivedServer(t, { bin })
      const place = await archivePlace(t)
      const archiver = place.archiver(server.node)
      await archiver.start()
      await until(() => archiver.status().state === 'streaming')
      await server.query("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (archive)'")
      await server.query('SELECT pg_reload_conf()')
      await until(async () => {
        const [row] = await server.query('SELECT sync_state FROM pg_stat_replication')
        return row?.sync_state === 'sync'
      })
      const times: number[] = []
      for (let id = 0; id < 100; id++) {
        const began = performance.now()
        const [row] = await server.query<{ lsn: string }>(
          `INSERT INTO kept (id) VALUES (${id}) RETURNING pg_current_wal_lsn() AS lsn`,
        )
        times.push(performance.now() - began)
        const flushed = parseLsn(archiver.status().flushLsn as string) as bigint
        assert.ok(flushed > (parseLsn(row?.lsn ?? '') as bigint), `commit ${id} before its flush`)
      }
      t.diagnostic(`median ${times.toSorted((a, b) => a - b)[50]?.toFixed(2)} ms with connecting`)
      await archiver.stop()
      const late = server.query('INSERT INTO kept (id) VALUES (1000)')
      let isDone = false
      void late.then(() => {
        isDone = true
      })
      await until(async () => {
        const rows = await server.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return rows.length === 1
      })
      assert.equal(isDone, false)
      const next = place.archiver(server.node)
      await next.start()
      await late
    })

    test('a slot that PostgreSQL gave up is made anew, and the gap is told', async t => {
      const server = await archivedServer(t, {
        bin,
        settings: { max_slot_wal_keep_size: '32MB', max_wal_size: '32MB' },
      })
      const place = await archivePlace(t)
      const first = place.archiver(server.node)
      await first.start()
      await until(() => first.status().state === 'streaming')
      await server.write(20 * megabyte)
      const before = await server.flushLsn()
      await first.untilFlushed(before, 10_000)
      await first.stop()
      await server.write(150 * megabyte)
      await server.query('CHECKPOINT')
      const [lost] = await server.query('SELECT wal_status FROM pg_replication_slots')
      assert.equal(lost?.wal_status, 'lost')
      const gaps: { from: string; to: string; timeline: number }[] = []
      const second = place.archiver(server.node, { onGap: gap => void gaps.push(gap) })
      await second.start()
      await until(() => gaps.length > 0)
      await second.untilStored(await server.flushLsn(), 20_000)
      assert.equal(gaps.length, 1)
      assert.ok((parseLsn(gaps[0]?.from ?? '') as bigint) >= before - BigInt(segmentBytes))
      assert.ok((parseLsn(gaps[0]?.to ?? '') as bigint) > before)
      assert.deepEqual(
        second.status().gaps.map(gap => gap.to),
        gaps.map(gap => gap.to),
      )
      const [slot] = await server.query('SELECT wal_status FROM pg_replication_slots')
      assert.equal(slot?.wal_status, 'reserved')
    })

    test('a timeline that ends is followed live: its end is kept, the next history is stored before the next segments', async t => {
      const primary = await archivedServer(t, { bin })
      const standby = await standbyOf(t, primary, bin)
      const place = await archivePlace(t)
      // A standby that streams is the server here, as after a switchover.
      const archiver = place.archiver(standby.node)
      await archiver.start()
      await until(() => archiver.status().state === 'streaming')
      await primary.write(20 * megabyte)
      const written = await primary.flushLsn()
      await archiver.untilStored(written, 20_000)
      await standby.query('SELECT pg_promote()')
      await until(() => archiver.status().timeline === 2)
      await standby.write(20 * megabyte)
      await archiver.untilStored(await standby.flushLsn(), 20_000)
      const system = archiver.status().systemIdentifier as string
      assert.equal(archiver.status().lastError, null)
      assert.deepEqual(await place.repository.timelines(system), [1, 2])
      const history = await place.repository.readSealed(layout.history(system, 2))
      assert.match(history.bytes.toString(), /^1\t0\//m)
      const puts = place.storage.calls.filter(call => call.operation === 'putNew').map(call => call.key)
      const firstOfNext = puts.findIndex(key => /\/00000002[0-9A-F]{16}/.test(key))
      assert.ok(puts.indexOf(layout.history(system, 2)) < firstOfNext)
      const segments = await Array.fromAsync(place.repository.segments(system, 2))
      assert.ok(segments.length > 0)
      for (const { key, segment } of segments) {
        const { bytes } = await place.repository.readSealed(key)
        assert.ok(bytes.equals(readFileSync(join(standby.node.dataDirectory, 'pg_wal', segment))), segment)
      }
      const ends = (await tailsOf(place, system)).filter(one => one.timeline === 1)
      const [switchLine] = /0\/[0-9A-F]+/.exec(history.bytes.toString()) ?? []
      assert.equal(ends.at(-1)?.end, switchLine)
      const spooled = readdirSync(archiver.status().spool.directory as string)
      assert.deepEqual(
        spooled.filter(file => /^00000001[0-9A-F]{16}/.test(file)),
        [],
      )

      // A backup completes: the keys of the time before it are forgotten, the history's among them.
      const key = await archiver.rotateKey()
      await archiver.stop()
      place.repository.ring.keepOnly([key.dataKey])
      const again = place.archiver(standby.node)
      await again.start()
      await standby.write(20 * megabyte)
      await again.untilStored(await standby.flushLsn(), 20_000)
      assert.equal(again.status().lastError, null)
    })
  })
}

describe('what the archive does when something is away', () => {
  test('while the repository is away the spool grows to its limit, PostgreSQL keeps the rest, then all is stored', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node, { spoolLimitBytes: 4 * segmentBytes })
    await archiver.start()
    await until(() => archiver.status().storedLsn !== null)
    place.storage.plan = failOn({})
    await server.write(120 * megabyte)
    await until(() => /spool is full/.test(archiver.status().reason ?? ''))
    const { state, spool, lagBytes } = archiver.status()
    assert.equal(state, 'waiting')
    assert.equal(spool.segments, 4)
    assert.ok((lagBytes as number) > 40 * megabyte, `${lagBytes} bytes behind`)
    const [connected] = await server.query('SELECT state FROM pg_stat_replication')
    assert.ok(connected, 'the connection stays')
    place.storage.plan = () => undefined
    await archiver.untilStored(await server.flushLsn(), 30_000)
    await until(() => archiver.status().state === 'streaming')
    assert.equal(archiver.status().reason, null)
    await assertContinuous(place, archiver.status().systemIdentifier as string)
  })

  test('a repository that stalls holds neither commits nor the end of the archive up', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node)
    await archiver.start()
    await until(() => archiver.status().storedLsn !== null)
    place.storage.plan = failOn({ operation: 'putNew', mishap: { kind: 'stall' } })
    await server.write(20 * megabyte)
    await archiver.untilFlushed(await server.flushLsn(), 10_000)
    await until(() => place.storage.stalled > 0)
    await server.write(1 * megabyte)
    await archiver.untilFlushed(await server.flushLsn(), 10_000)
    place.storage.plan = () => undefined
    place.storage.release()
    await archiver.untilStored(await server.flushLsn(), 10_000)
  })

  test('an archive whose repository stalls can be stopped, and what was not stored stays in the spool', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const first = place.archiver(server.node)
    await first.start()
    await until(() => first.status().storedAt !== null)
    place.storage.plan = failOn({ operation: 'putNew', mishap: { kind: 'stall' } })
    await server.write(20 * megabyte)
    const end = await server.flushLsn()
    await first.untilFlushed(end, 10_000)
    await until(() => place.storage.stalled > 0)
    const beganMs = performance.now()
    await first.stop()
    assert.ok(performance.now() - beganMs < 12_000)
    place.storage.plan = () => undefined
    const second = place.archiver(server.node)
    await second.start()
    await second.untilStored(end, 10_000)
    place.storage.release()
    await assertContinuous(place, second.status().systemIdentifier as string)
  })

  test('an object that the store took only a part of is written again before the spool frees it', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node)
    await archiver.start()
    await until(() => archiver.status().storedLsn !== null)
    place.storage.plan = failOn({
      operation: 'putNew',
      key: /^wal\//,
      times: 1,
      mishap: { kind: 'truncate', bytes: 5000 },
    })
    await server.write(40 * megabyte)
    await archiver.untilStored(await server.flushLsn(), 20_000)
    await assertContinuous(place, archiver.status().systemIdentifier as string)
  })

  test('an archive that starts while the repository is away receives all the same, and stores later', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const first = place.archiver(server.node)
    await first.start()
    await until(() => first.status().storedAt !== null)
    await first.stop()
    place.storage.plan = failOn({})
    const second = place.archiver(server.node)
    await second.start()
    await server.write(20 * megabyte)
    await second.untilFlushed(await server.flushLsn(), 10_000)
    assert.equal(second.status().state, 'streaming')
    await until(() => /cannot be used now/.test(second.status().reason ?? ''))
    place.storage.plan = () => undefined
    await second.untilStored(await server.flushLsn(), 10_000)
    assert.equal(second.status().reason, null)
    await assertContinuous(place, second.status().systemIdentifier as string)
  })

  test('while the disk of the spool fails nothing is confirmed, and afterwards all of it is there', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    let isBroken = false
    const files: SpoolFiles = {
      ...realFiles,
      datasync: async fd => {
        if (isBroken) throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
        return realFiles.datasync(fd)
      },
    }
    const archiver = place.archiver(server.node, { files })
    await archiver.start()
    await until(() => archiver.status().storedAt !== null)
    await archiver.untilFlushed(await server.flushLsn(), 10_000)
    const before = await server.flushLsn()
    isBroken = true
    await server.write(20 * megabyte)
    await until(() => /EIO/.test(archiver.status().reason ?? ''))
    await until(() => archiver.status().failures > 3)
    assert.equal(archiver.status().state, 'waiting')
    const [slot] = await server.query<{ restart_lsn: string }>('SELECT restart_lsn FROM pg_replication_slots')
    assert.ok((parseLsn(slot?.restart_lsn ?? '') as bigint) <= before)
    isBroken = false
    await archiver.untilStored(await server.flushLsn(), 20_000)
    assert.equal(archiver.status().state, 'streaming')
    await assertContinuous(place, archiver.status().systemIdentifier as string)
  })

  test('a server that goes and comes back is found again', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node)
    await archiver.start()
    await until(() => archiver.status().state === 'streaming')
    await server.node.stop({ mode: 'immediate', withinMs: 5_000 })
    await until(() => archiver.status().state === 'waiting')
    await server.node.start(60_000)
    await server.write(20 * megabyte)
    await archiver.untilStored(await server.flushLsn(), 20_000)
    assert.equal(archiver.status().state, 'streaming')
    await assertContinuous(place, archiver.status().systemIdentifier as string)
  })

  test('another database is refused by the spool, and by the repository of a new spool', async t => {
    const [one, other] = [
      await archivedServer(t),
      await archivedServer(t, { bin: noDebian ? undefined : debianBin }),
    ]
    const place = await archivePlace(t)
    const first = place.archiver(one.node)
    await first.start()
    await until(() => first.status().storedAt !== null)
    await first.stop()
    const bySpool = place.archiver(other.node)
    await bySpool.start()
    await until(() => bySpool.status().state === 'conflict')
    assert.match(bySpool.status().reason ?? '', /holds WAL of system/)
    const byRepository = place.archiver(other.node, { spoolDirectory: join(place.directory, 'new-spool') })
    await byRepository.start()
    await until(() => byRepository.status().state === 'conflict')
    assert.match(byRepository.status().reason ?? '', /repository holds WAL of system/)
    const slots = await other.query('SELECT 1 FROM pg_replication_slots')
    assert.equal(slots.length, 0)
  })
})

describe('who may archive', () => {
  test('a second archiver waits, names the first one, and goes on when it stops', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const first = place.archiver(server.node, { holder: 'the first' })
    await first.start()
    await until(() => first.status().storedAt !== null)
    const second = place.archiver(server.node, {
      holder: 'the second',
      spoolDirectory: join(place.directory, 'other-spool'),
    })
    await second.start()
    await until(() => /the first/.test(second.status().reason ?? ''))
    assert.equal(second.status().state, 'waiting')
    assert.match(second.status().reason ?? '', /archives this database since/)
    await server.write(20 * megabyte)
    await first.untilStored(await server.flushLsn(), 10_000)
    await first.stop()
    await server.write(20 * megabyte)
    await second.untilStored(await server.flushLsn(), 10_000)
    assert.equal(second.status().state, 'streaming')
    await assertContinuous(place, second.status().systemIdentifier as string)
  })

  test('an archiver whose lease another one took stops storing and receiving at once', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node)
    await archiver.start()
    await until(() => archiver.status().storedAt !== null)
    const prefix = layout.locks(`archive-${archiver.status().systemIdentifier}`)
    const now = new Date().toISOString()
    const record = { holder: 'a thief', token: 'x', since: now, renewedAt: now, ttlMs: 600_000 }
    await place.storage.put(`${prefix}000000000099`, [Buffer.from(JSON.stringify(record))])
    const segmentsBefore = await countSegments(place, archiver.status().systemIdentifier as string)
    await server.write(40 * megabyte)
    await until(() => /a thief archives/.test(archiver.status().reason ?? ''))
    assert.equal(archiver.status().state, 'waiting')
    assert.equal(await countSegments(place, archiver.status().systemIdentifier as string), segmentsBefore)
    await until(async () => (await server.query('SELECT 1 FROM pg_stat_replication')).length === 0)
  })

  test('another segment of the same name stops the archive, and neither is touched', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const first = place.archiver(server.node)
    await first.start()
    await until(() => first.status().storedAt !== null)
    const system = first.status().systemIdentifier as string
    await first.stop()
    const segment = segmentName(1, await server.flushLsn(), segmentBytes)
    const object = layout.segment(system, segment)
    const lsn = parseSegmentName(segment, segmentBytes)?.start as bigint
    const facts: WalFacts = {
      systemIdentifier: system,
      timeline: 1,
      segment,
      segmentBytes,
      start: formatLsn(lsn),
      end: formatLsn(lsn + BigInt(segmentBytes)),
    }
    const bytes = Buffer.alloc(segmentBytes, 'other')
    const dataKey = await place.repository.newDataKey()
    await place.repository.writeSealed({ object, kind: 'wal', facts, dataKey, bytes })
    const second = place.archiver(server.node)
    await second.start()
    await server.write(40 * megabyte)
    await until(() => second.status().state === 'conflict')
    assert.match(second.status().reason ?? '', new RegExp(`${segment} differs from ${object}`))
    assert.ok((await place.repository.readSealed(object)).bytes.equals(bytes))
    assert.ok(readdirSync(second.status().spool.directory as string).includes(segment))
    await second.untilFlushed(await server.flushLsn(), 10_000)
  })

  test('a server set back is refused by stored tails, and by their bytes when it has grown past them', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const first = place.archiver(server.node)
    await first.start()
    await first.untilStored(await server.flushLsn(), 10_000)
    const system = first.status().systemIdentifier as string
    await first.stop()
    const directory = testDirectory(t)
    const snapshot = join(directory, 'snapshot')
    await server.node.stop({ mode: 'fast', withinMs: 30_000 })
    cloneDirectory(server.node.dataDirectory, snapshot)
    await server.node.start(60_000)
    const second = place.archiver(server.node)
    await second.start()
    await server.write(megabyte)
    await second.untilStored(await server.flushLsn(), 10_000)
    await second.stop()
    await server.node.stop({ mode: 'fast', withinMs: 30_000 })
    const kept = await tailsOf(place, system)

    const old = await startCopy(t, { of: snapshot, directory })
    const spool = join(directory, 'new spool')
    const behind = place.archiver(old.node, { spoolDirectory: spool })
    await behind.start()
    await until(() => behind.status().state === 'conflict')
    assert.match(behind.status().reason ?? '', /the archive holds timeline 1 up to/)
    await behind.stop()
    await old.write(2 * megabyte)
    const grown = place.archiver(old.node, { spoolDirectory: spool })
    await grown.start()
    await until(() => grown.status().state === 'conflict')
    assert.match(grown.status().reason ?? '', /differs from tail\/.*the first other byte is at offset/)
    assert.deepEqual(await tailsOf(place, system), kept)
  })

  test('a lost spool is received again, and stored tails go on where they ended', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const first = place.archiver(server.node)
    await first.start()
    await server.write(megabyte)
    await first.untilStored(await server.flushLsn(), 10_000)
    const system = first.status().systemIdentifier as string
    await first.stop()
    const kept = await tailsOf(place, system)
    const second = place.archiver(server.node, { spoolDirectory: join(place.directory, 'new spool') })
    await second.start()
    await server.write(megabyte)
    await second.untilStored(await server.flushLsn(), 10_000)
    const tails = await tailsOf(place, system)
    assert.deepEqual(tails.slice(0, kept.length), kept)
    assert.equal(tails[kept.length]?.start, kept.at(-1)?.end)
    assert.equal(second.status().lastError, null)
  })

  test('an equal segment that is stored already frees the file', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node)
    await archiver.start()
    await until(() => archiver.status().storedAt !== null)
    place.storage.plan = failOn({ operation: 'putNew', key: /^wal\//, times: 2, mishap: { kind: 'lost' } })
    await server.write(40 * megabyte)
    await archiver.untilStored(await server.flushLsn(), 10_000)
    await assertContinuous(place, archiver.status().systemIdentifier as string)
  })

  test('a segment that is stored already under a key that is not here frees the file all the same', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const archiver = place.archiver(server.node)
    await archiver.start()
    await until(() => archiver.status().storedAt !== null)
    // Stored, but the answer is lost, and meanwhile a backup makes the home forget the key.
    let isForgotten = false
    place.storage.plan = call => {
      if (isForgotten || call.operation !== 'putNew' || !call.key.startsWith('wal/')) return undefined
      isForgotten = true
      place.repository.ring.keepOnly([])
      return { kind: 'lost' }
    }
    await server.write(40 * megabyte)
    await archiver.untilStored(await server.flushLsn(), 10_000)
    assert.ok(isForgotten)
    assert.equal(archiver.status().state, 'streaming')
    const system = archiver.status().systemIdentifier as string
    const [first] = await Array.fromAsync(place.repository.segments(system, 1))
    await assert.rejects(place.repository.readSealed(first?.key ?? ''), { code: 'BACKUP_KEY_NEEDED' })
    await assertContinuous(place, system)
  })

  test('a new data key seals what completes from then on, and the next start goes on with it', async t => {
    const server = await archivedServer(t)
    const place = await archivePlace(t)
    const keysOf = async (system: string) => {
      const keys: string[] = []
      for await (const { key } of place.repository.segments(system, 1))
        keys.push((await place.repository.inspect(key)).dataKey)
      return keys
    }
    const first = place.archiver(server.node)
    await first.start()
    await server.write(20 * megabyte)
    await first.untilStored(await server.flushLsn(), 10_000)
    const system = first.status().systemIdentifier as string
    const before = await keysOf(system)
    const { dataKey } = await first.rotateKey()
    await server.write(20 * megabyte)
    await first.untilStored(await server.flushLsn(), 10_000)
    const after = await keysOf(system)
    assert.ok(!before.includes(dataKey))
    assert.deepEqual([...new Set(after.slice(before.length))], [dataKey])
    await first.stop()
    const second = place.archiver(server.node)
    await second.start()
    await server.write(20 * megabyte)
    await second.untilStored(await server.flushLsn(), 10_000)
    assert.equal((await keysOf(system)).at(-1), dataKey)
  })
})

describe('a timeline that ended', () => {
  test('is followed after a restart too, and WAL that only the old server had is kept', async t => {
    const primary = await archivedServer(t)
    const standby = await standbyOf(t, primary)
    const place = await archivePlace(t)
    const first = place.archiver(primary.node)
    await first.start()
    await primary.write(1 * megabyte)
    const common = await primary.flushLsn()
    await first.untilStored(common, 20_000)
    await until(async () => {
      const [row] = await standby.query<{ lsn: string }>('SELECT pg_last_wal_replay_lsn() AS lsn')
      return (parseLsn(row?.lsn ?? '') as bigint) >= common
    })
    await standby.query("ALTER SYSTEM SET primary_conninfo = ''")
    await standby.query('SELECT pg_reload_conf()')
    await until(async () => (await standby.query('SELECT 1 FROM pg_stat_wal_receiver')).length === 0)
    await primary.write(1 * megabyte)
    const lost = await primary.flushLsn()
    await first.untilFlushed(lost, 10_000)
    place.storage.plan = failOn({ operation: 'putNew' })
    await first.stop()
    place.storage.plan = () => undefined
    await primary.node.stop({ mode: 'immediate', withinMs: 10_000 })
    await standby.query('SELECT pg_promote()')
    const second = place.archiver(standby.node)
    await second.start()
    await until(() => second.status().timeline === 2)
    await standby.write(40 * megabyte)
    await second.untilStored(await standby.flushLsn(), 20_000)
    const system = second.status().systemIdentifier as string
    const ends = (await tailsOf(place, system)).filter(one => one.timeline === 1)
    assert.ok((parseLsn(ends.at(-1)?.end ?? '') as bigint) >= lost, 'what only the old server had is kept')
    assert.ok((await Array.fromAsync(place.repository.segments(system, 2))).length >= 2)
    // The old server comes back and is not followed.
    await second.stop()
    await primary.node.start(60_000)
    const third = place.archiver(primary.node)
    await third.start()
    await until(() => third.status().state === 'conflict')
    assert.match(third.status().reason ?? '', /PostgreSQL is on timeline 1/)
  })
})

const noMount = process.getuid?.() === 0 ? false : 'needs root, to mount a small tmpfs: run the tests as root'

test('a full disk under the spool stops nothing but the archive, which goes on when there is room', {
  skip: noMount,
}, async t => {
  const server = await archivedServer(t)
  const place = await archivePlace(t)
  const small = join(place.directory, 'small')
  mkdirSync(small)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=60m,mode=0700', 'tmpfs', small])
  cleanUp(t, () => execFileSync('umount', [small]))
  const archiver = place.archiver(server.node, { spoolDirectory: small, spoolLimitBytes: 2 ** 30 })
  await archiver.start()
  await until(() => archiver.status().storedAt !== null)
  place.storage.plan = failOn({})
  await server.write(100 * megabyte)
  await until(() => /ENOSPC/.test(archiver.status().reason ?? ''))
  assert.equal(archiver.status().state, 'waiting')
  const { flushLsn } = archiver.status()
  const [slot] = await server.query<{ restart_lsn: string }>('SELECT restart_lsn FROM pg_replication_slots')
  assert.ok((parseLsn(slot?.restart_lsn ?? '') as bigint) <= (parseLsn(flushLsn ?? '') as bigint))
  place.storage.plan = () => undefined
  await archiver.untilStored(await server.flushLsn(), 30_000)
  await assertContinuous(place, archiver.status().systemIdentifier as string)
})

/** A standby that streams from the server, which stands still for a copy of its data directory. */
async function standbyOf(t: TestContext, primary: ArchivedServer, bin?: string): Promise<ArchivedServer> {
  const directory = testDirectory(t)
  const copy = join(directory, 'copy')
  await primary.node.stop({ mode: 'fast', withinMs: 30_000 })
  cloneDirectory(primary.node.dataDirectory, copy)
  writeFileSync(join(copy, 'standby.signal'), '')
  const { port, socketDirectory } = await primary.node.start(60_000)
  const conninfo = `host=${socketDirectory} port=${port} user=moonyetis_replication`
  return startCopy(t, { of: copy, directory, bin, settings: { primary_conninfo: conninfo } })
}

async function countSegments(place: Place, system: string): Promise<number> {
  return (await Array.fromAsync(place.repository.segments(system, 1))).length
}

type Place = Awaited<ReturnType<typeof archivePlace>>

async function tailsOf(place: Place, system: string): Promise<WalFacts[]> {
  const facts: WalFacts[] = []
  for await (const { key } of place.storage.list(layout.tails(system)))
    facts.push((await place.repository.inspect(key)).facts as WalFacts)
  return facts
}

/** Whole segments without a hole, each readable, and tails that go on where they end. */
async function assertContinuous(place: Place, system: string): Promise<void> {
  const ends: string[] = []
  for await (const { key } of place.repository.segments(system, 1)) {
    const { start, end } = (await place.repository.checkSealed(key)).facts as WalFacts
    const last = ends.at(-1)
    if (last !== undefined) assert.equal(start, last, `hole before ${key}`)
    ends.push(end)
  }
  for (const { start, end } of await tailsOf(place, system)) {
    assert.equal(start, ends.at(-1), 'hole before a tail')
    ends.push(end)
  }
}
