import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { manualClock } from '#lib/clock.ts'
import { formatLsn } from '#lib/lsn.ts'
import { crc32cHex, type ServerManifest } from '#postgres/wire/manifest.ts'
import { tarEnd, tarHeader, tarPadding } from '#postgres/wire/tar-writer.ts'
import type { BackupKind, BackupMarker } from '../model.ts'
import { FileIndex, type IndexedFile } from './file-index.ts'
import { alreadyDone } from './full.ts'
import { firstHole } from './log-check.ts'
import { requireAsManifest } from './manifest-check.ts'
import { type BackupProgress, ProgressMeter } from './progress.ts'
import { sizeInBytes } from './server-facts.ts'

const attributes = { mode: 0o600, uid: 1, gid: 1, modifiedAt: 0 }

function archiveOf(files: Record<string, Buffer>): Buffer {
  const parts = Object.entries(files).flatMap(([path, content]) => [
    tarHeader({ path, type: 'file', bytes: content.length, ...attributes }),
    content,
    tarPadding(content.length),
  ])
  return Buffer.concat([...parts, tarEnd])
}

/** Feeds the archive in frames of that size, with checksums that come two frames late. */
function indexOf(archive: Buffer, frameBytes: number): FileIndex {
  const index = new FileIndex()
  index.begin('base')
  const late: (() => void)[] = []
  for (let at = 0; at < archive.length; at += frameBytes) {
    const frame = Buffer.from(archive.subarray(at, at + frameBytes))
    const runs = index.frame(frame)
    const copy = Buffer.from(frame)
    let from = 0
    const crcs = runs.lengths.map(length => {
      from += length
      return crc32c(copy.subarray(from - length, from))
    })
    late.push(() => index.sums(runs, crcs))
    frame.fill(0xee)
    if (late.length > 2) late.shift()?.()
  }
  for (const one of late) one()
  index.end()
  return index
}

const files = {
  backup_label: Buffer.from('START WAL LOCATION: 0/2000028\n'),
  'base/5/1259': Buffer.alloc(100_000, 7),
  'base/5/empty': Buffer.alloc(0),
  'base/5/small': Buffer.from('x'),
  'global/pg_control': Buffer.alloc(8192, 3),
}

describe('the index of files', () => {
  for (const frameBytes of [1, 511, 512, 4096, 1_000_000]) {
    test(`finds each file with its place and checksum in frames of ${frameBytes} bytes`, () => {
      const archive = archiveOf(files)
      const index = indexOf(archive, frameBytes)
      assert.deepEqual(
        index.files.map(file => [file.path, file.bytes, file.crc]),
        Object.entries(files).map(([path, content]) => [path, content.length, crc32c(content)]),
      )
      for (const { path, offset, bytes } of index.files)
        assert.deepEqual(archive.subarray(offset, offset + bytes), files[path as keyof typeof files])
      assert.equal(index.label, 'START WAL LOCATION: 0/2000028\n')
    })
  }

  test('an archive that ends early is refused', () => {
    const archive = archiveOf(files)
    assert.throws(() => indexOf(archive.subarray(0, archive.length - 1024), 4096), { code: 'TAR_INVALID' })
  })
})

describe('what came against the manifest', () => {
  const came = (): IndexedFile[] => indexOf(archiveOf(files), 4096).files
  const manifest = (): ServerManifest => ({
    version: 2,
    walRanges: [],
    files: Object.entries(files).map(([path, content]) => ({
      path,
      bytes: content.length,
      checksumAlgorithm: 'CRC32C',
      checksum: crc32cHex(crc32c(content)),
    })),
  })
  const refused = (change: (files: IndexedFile[], manifest: ServerManifest) => void, reason: RegExp) => {
    const [given, expected] = [came(), manifest()]
    change(given, expected)
    assert.throws(() => requireAsManifest(given, expected), { code: 'BACKUP_STREAM_WRONG', message: reason })
  }

  test('what fits passes', () => requireAsManifest(came(), manifest()))

  test('another byte, another size, a missing file and one too many are each named', () => {
    refused(given => {
      ;(given[1] as IndexedFile).crc ^= 1
    }, /base\/5\/1259 does not fit its checksum/)
    refused(given => {
      ;(given[1] as IndexedFile).bytes -= 1
    }, /base\/5\/1259 has 99999 bytes instead of 100000/)
    refused(given => given.splice(2, 1), /base\/5\/empty is missing/)
    refused((_given, expected) => expected.files.splice(3, 1), /base\/5\/small is in no manifest/)
  })

  test('files of a tablespace are looked for below its link', () => {
    const given = came()
    given.unshift({ archive: '16385', path: 'PG_15_202209061/5/1', bytes: 0, offset: 512, crc: 0 })
    const expected = manifest()
    const none = { bytes: 0, checksumAlgorithm: 'CRC32C', checksum: '00000000' }
    expected.files.push({ path: 'pg_tblspc/16385/PG_15_202209061/5/1', ...none })
    requireAsManifest(given, expected)
  })

  test('a label that is not first and a control file that is not last are refused', () => {
    refused(given => given.push(given.shift() as IndexedFile), /backup_label does not come first/)
    refused(given => given.push(given.shift() as IndexedFile), /global\/pg_control does not come last/)
  })

  test('a manifest without checksums proves nothing', () => {
    refused((_given, expected) => {
      delete expected.files[1]?.checksumAlgorithm
    }, /base\/5\/1259 has no CRC-32C/)
  })
})

describe('a backup that is due', () => {
  const marker = (kind: BackupKind, startedAt: string) => ({ kind, startedAt }) as BackupMarker
  const dueAt = new Date('2026-11-24T02:00:00Z')

  test('is done when one of its kind, or a full one, began since then', () => {
    const [early, late] = ['2026-11-24T01:59:59.999Z', '2026-11-24T02:00:00.000Z']
    assert.equal(alreadyDone([marker('full', early)], { kind: 'full', dueAt }), undefined)
    assert.equal(alreadyDone([marker('full', late)], { kind: 'full', dueAt })?.startedAt, late)
    assert.equal(alreadyDone([marker('full', late)], { kind: 'db', dueAt })?.kind, 'full')
    assert.equal(alreadyDone([marker('db', late), marker('files', late)], { kind: 'full', dueAt }), undefined)
  })
})

describe('progress', () => {
  test('tells rate and time left from the last ten seconds, and the total is never less than what is done', () => {
    const clock = manualClock()
    const told: BackupProgress[] = []
    const meter = new ProgressMeter({ clock, onProgress: one => told.push(one) })
    meter.phase('data')
    meter.bytes({ bytesTotal: 1000 })
    clock.advance(1000)
    meter.bytes({ bytesDone: 100 })
    assert.deepEqual([told.at(-1)?.bytesPerSecond, told.at(-1)?.etaSeconds], [100, 9])
    clock.advance(10)
    meter.bytes({ bytesDone: 105 })
    assert.equal(told.at(-1)?.bytesDone, 100, 'it is told a few times a second, not for each byte')
    for (let second = 0; second < 20; second++) {
      clock.advance(1000)
      meter.bytes({ bytesDone: 1100 })
    }
    assert.deepEqual([told.at(-1)?.bytesPerSecond, told.at(-1)?.bytesTotal], [0, 1100])
    assert.equal(told.at(-1)?.etaSeconds, undefined)
  })
})

test('sizes are read as SHOW prints them', () => {
  assert.deepEqual(['8192', '16MB', '1GB', '512kB'].map(sizeInBytes), [8192, 2 ** 24, 2 ** 30, 2 ** 19])
})

describe('the log of a backup', () => {
  const segmentBytes = 1024 * 1024
  const at = (segment: number, offset = 0) => BigInt(segment) * BigInt(segmentBytes) + BigInt(offset)
  const backup = { timeline: 2, start: formatLsn(at(5, 40)), stop: formatLsn(at(8, 300)) }
  const holeIn = (numbers: number[], tail?: [start: bigint, end: bigint], stop = backup.stop) => {
    const segments = new Map([[2, numbers.map(one => at(one))]])
    const tails = new Map([[2, new Map(tail ? [tail] : [])]])
    // A timeline that went on elsewhere must not be followed.
    const parents = new Map([[3, [{ timeline: 2, end: at(9) }]]])
    return firstHole({ ...backup, stop }, { segmentBytes, segments, tails, parents })
  }

  test('is there in whole segments, or with the last of them in pieces, whatever is missing behind it', () => {
    assert.equal(holeIn([4, 5, 6, 7, 8]), undefined)
    assert.equal(holeIn([5, 6, 7, 8, 10]), undefined)
    assert.equal(holeIn([5, 6, 7, 9], [at(8), at(8, 300)]), undefined)
    assert.equal(holeIn([5, 6, 7], undefined, formatLsn(at(8))), undefined)
  })

  test('has a hole where a segment or the end of the last one is missing', () => {
    assert.deepEqual(holeIn([5, 7, 8]), { timeline: 2, from: at(6), to: at(7) })
    assert.deepEqual(holeIn([6, 7, 8]), { timeline: 2, from: at(5), to: at(6) })
    assert.deepEqual(holeIn([5, 6, 7, 9]), { timeline: 2, from: at(8), to: at(8, 300) })
    assert.deepEqual(holeIn([5, 6, 7], [at(8), at(8, 299)]), {
      timeline: 2,
      from: at(8, 299),
      to: at(8, 300),
    })
    assert.deepEqual(holeIn([]), { timeline: 2, from: at(5), to: at(8, 300) })
  })
})
