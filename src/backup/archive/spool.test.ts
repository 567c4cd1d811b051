import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { until } from '#test/until.ts'
import { Spool } from './spool.ts'
import { readFlushed, systemsIn } from './spool-directory.ts'
import { realFiles, type SpoolFiles } from './spool-files.ts'

const systemIdentifier = '7711677056603304589'
const segmentBytes = 1024 * 1024
const segment = (number: number) => `00000001000000000000000${number}`
const start = (number: number) => BigInt(number * segmentBytes)
const bytes = (length: number, fill = 'x') => Buffer.alloc(length, fill)

interface Place {
  root: string
  open(o?: { files?: SpoolFiles; limitBytes?: number }): Spool
}

function place(t: TestContext): Place {
  const root = mkdtempSync(join(tmpdir(), 'spool-'))
  const spools: Spool[] = []
  t.after(async () => {
    for (const spool of spools) await spool.close()
    rmSync(root, { recursive: true, force: true })
  })
  return {
    root,
    open: ({ files, limitBytes = 10 * segmentBytes } = {}) => {
      const spool = new Spool({ root, systemIdentifier, segmentBytes, limitBytes, files })
      spools.push(spool)
      return spool
    },
  }
}

const walFiles = (spool: Spool) => readdirSync(spool.directory).filter(name => /^[0-9A-F]{24}/.test(name))

describe('the spool', () => {
  test('received bytes lie in a partial file as long as a segment, private, with zeros behind', async t => {
    const spool = place(t).open()
    await spool.beginAt({ timeline: 1, lsn: start(3) })
    spool.write(start(3), bytes(100))
    spool.write(start(3) + 100n, bytes(50, 'y'))
    assert.equal(await spool.flush(), start(3) + 150n)
    assert.deepEqual(walFiles(spool), [`${segment(3)}.partial`])
    const path = join(spool.directory, `${segment(3)}.partial`)
    const wanted = Buffer.concat([bytes(100), bytes(50, 'y'), Buffer.alloc(segmentBytes - 150)])
    assert.ok(readFileSync(path).equals(wanted))
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(statSync(spool.directory).mode & 0o777, 0o700)
    assert.equal(spool.open?.flushLsn, start(3) + 150n)
  })

  test('a segment that is whole gets its name with the flush, before bytes of the next one count', async t => {
    const spool = place(t).open()
    let told = 0
    spool.onComplete = () => told++
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(2 * segmentBytes + 10))
    assert.equal(spool.complete.length, 0)
    assert.equal(await spool.flush(), start(3) + 10n)
    assert.deepEqual(walFiles(spool), [segment(1), segment(2), `${segment(3)}.partial`])
    assert.deepEqual(
      spool.complete.map(one => one.segment),
      [segment(1), segment(2)],
    )
    assert.equal(told, 1)
    const [first] = spool.complete
    assert.ok(first)
    assert.ok((await spool.read(first, { from: 0, to: segmentBytes })).equals(bytes(segmentBytes)))
    spool.remove(first)
    assert.deepEqual(spool.usage, { segments: 2, bytes: 2 * segmentBytes })
  })

  test('a flush that ends with a segment leaves no open one, and the next byte opens the next', async t => {
    const spool = place(t).open()
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(segmentBytes))
    await spool.flush()
    assert.deepEqual(walFiles(spool), [segment(1)])
    assert.equal(spool.open, undefined)
    assert.deepEqual(spool.position(), { timeline: 1, lsn: start(2), end: start(2) })
    spool.write(start(2), bytes(1))
    await spool.flush()
    assert.deepEqual(walFiles(spool), [segment(1), `${segment(2)}.partial`])
  })

  test('a start finds what is whole, and the open segment to be received again from its beginning', async t => {
    const { open } = place(t)
    const before = open()
    await before.beginAt({ timeline: 1, lsn: start(1) })
    before.write(start(1), bytes(segmentBytes + 70))
    await before.flush()
    before.write(start(2) + 70n, bytes(30))
    const after = open()
    assert.deepEqual(
      after.complete.map(one => one.segment),
      [segment(1)],
    )
    assert.deepEqual(after.position(), { timeline: 1, lsn: start(2), end: start(2) + 100n })
    assert.equal(after.open?.flushLsn, start(2) + 70n)
    await after.beginAt({ timeline: 1, lsn: start(2) })
    after.write(start(2), bytes(120))
    assert.equal(await after.flush(), start(2) + 120n)
  })

  test('other bytes than an earlier process wrote are refused, zeros are filled', async t => {
    const { open } = place(t)
    const before = open()
    await before.beginAt({ timeline: 1, lsn: start(1) })
    before.write(start(1), Buffer.concat([bytes(10), Buffer.alloc(10), bytes(10)]))
    await before.flush()
    const after = open()
    await after.beginAt({ timeline: 1, lsn: start(1) })
    after.write(start(1), bytes(20))
    assert.throws(() => after.write(start(1) + 20n, bytes(10, 'z')), {
      code: 'ARCHIVE_WAL_DIFFERS',
      message: /0\/100014/,
    })
  })

  test('a stream that breaks goes on in place after what was flushed', async t => {
    const spool = place(t).open()
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(100))
    await spool.flush()
    spool.write(start(1) + 100n, bytes(100))
    assert.deepEqual(spool.position(), { timeline: 1, lsn: start(1) + 100n, end: start(1) + 200n })
    await spool.beginAt({ timeline: 1, lsn: start(1) + 100n })
    spool.write(start(1) + 100n, bytes(100))
    assert.equal(await spool.flush(), start(1) + 200n)
  })

  test('a break after the beginning of the next segment goes back to the one that is not safe yet', async t => {
    const spool = place(t).open()
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(100))
    await spool.flush()
    spool.write(start(1) + 100n, bytes(segmentBytes))
    const position = spool.position()
    assert.equal(position?.lsn, start(1))
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(segmentBytes + 200))
    assert.equal(await spool.flush(), start(2) + 200n)
    assert.deepEqual(walFiles(spool), [segment(1), `${segment(2)}.partial`])
  })

  test('after a flush that failed the whole segment is written and flushed again before anything counts', async t => {
    const faults: string[] = []
    const written: bigint[] = []
    const files: SpoolFiles = {
      ...realFiles,
      write: (fd, data, offset) => {
        written.push(BigInt(offset))
        realFiles.write(fd, data, offset)
      },
      datasync: async fd => {
        const code = faults.shift()
        if (code) throw Object.assign(new Error(`${code}: i/o error`), { code })
        return realFiles.datasync(fd)
      },
    }
    const spool = place(t).open({ files })
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(100))
    await spool.flush()
    spool.write(start(1) + 100n, bytes(100))
    faults.push('EIO')
    await assert.rejects(spool.flush(), { code: 'EIO' })
    await spool.abandon()
    assert.equal(spool.flushLsn, undefined)
    assert.deepEqual(spool.position(), { timeline: 1, lsn: start(1), end: start(1) + 200n })
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    written.length = 0
    spool.write(start(1), bytes(200))
    assert.ok(written.includes(0n), 'what the cache says is there was written all the same')
    assert.equal(await spool.flush(), start(1) + 200n)
  })

  test('what was flushed is noted at once, and the note is put on disk by itself and at the end', async t => {
    const synced: string[] = []
    const names = new Map<number, string>()
    const files: SpoolFiles = {
      ...realFiles,
      open: path => {
        const fd = realFiles.open(path)
        names.set(fd, basename(path))
        return fd
      },
      datasync: async fd => void synced.push(names.get(fd) ?? ''),
    }
    const { root } = place(t)
    const spool = new Spool({ root, systemIdentifier, segmentBytes, limitBytes: 10 * segmentBytes, files })
    const notes = () => synced.filter(name => name === 'flushed').length
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    for (let at = 0; at < 100; at++) {
      spool.write(start(1) + BigInt(at), bytes(1))
      await spool.flush()
    }
    assert.deepEqual(readFlushed(spool.directory), { segment: segment(1), offset: 100 })
    assert.equal(notes(), 0, 'no commit waits for the note')
    await until(() => notes() === 1)
    spool.write(start(1) + 100n, bytes(1))
    await spool.flush()
    await spool.close()
    assert.equal(notes(), 2)
  })

  test('a file that finds no room throws and leaves what was received to be flushed', async t => {
    let isFull = false
    const files: SpoolFiles = {
      ...realFiles,
      fill: async () => {
        throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' })
      },
      write: (fd, data, offset) => {
        if (isFull && data.length > 1000)
          throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' })
        realFiles.write(fd, data, offset)
      },
    }
    const spool = place(t).open({ files })
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(segmentBytes - 10))
    isFull = true
    assert.throws(() => spool.write(start(2) - 10n, bytes(100)), { code: 'ENOSPC' })
    assert.equal(await spool.flush(), start(2))
    isFull = false
    assert.deepEqual(spool.position(), { timeline: 1, lsn: start(2), end: start(2) })
    await spool.beginAt({ timeline: 1, lsn: start(2) })
    spool.write(start(2), bytes(90))
    assert.equal(await spool.flush(), start(2) + 90n)
  })

  test('a spool at its limit takes no new segment until one is freed', async t => {
    const spool = place(t).open({ limitBytes: 2 * segmentBytes })
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    assert.equal(spool.isFullFor(start(1), 100), false)
    spool.write(start(1), bytes(segmentBytes + 10))
    await spool.flush()
    assert.equal(spool.isFullFor(start(2) + 10n, 100), false)
    assert.equal(spool.isFullFor(start(2) + 10n, segmentBytes), true)
    const room = spool.room()
    const [first] = spool.complete
    assert.ok(first)
    spool.remove(first)
    await room
    assert.equal(spool.isFullFor(start(2) + 10n, segmentBytes), false)
  })

  test('a timeline that ends leaves its last segment with what was there, beyond the switch too', async t => {
    const { open } = place(t)
    const spool = open()
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(100))
    await spool.closeTimeline(1, start(1) + 60n)
    assert.deepEqual(walFiles(spool), [`${segment(1)}.00000064.closed`])
    assert.deepEqual(spool.position(), { timeline: 1, lsn: start(1) + 100n, end: start(1) + 100n })
    const [closed] = open().closed
    assert.equal(closed?.end, start(1) + 100n)
    await spool.beginAt({ timeline: 2, lsn: start(1) })
    spool.write(start(1), bytes(10))
    await spool.flush()
    assert.equal(spool.position()?.timeline, 2)
  })

  test('the next segment begins in a file that was filled with zeros meanwhile', async t => {
    const spool = place(t).open()
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(10))
    const spare = join(spool.directory, 'spare')
    while (!existsSync(spare)) await new Promise(resolve => setImmediate(resolve))
    const { ino } = statSync(spare)
    spool.write(start(1) + 10n, bytes(segmentBytes))
    await spool.flush()
    assert.equal(statSync(join(spool.directory, `${segment(2)}.partial`)).ino, ino)
  })

  test('the systems of a spool are those with WAL in it', async t => {
    const { root, open } = place(t)
    const spool = open()
    assert.deepEqual(systemsIn(root), [])
    await spool.beginAt({ timeline: 1, lsn: start(1) })
    spool.write(start(1), bytes(10))
    await spool.flush()
    assert.deepEqual(systemsIn(root), [systemIdentifier])
  })
})
