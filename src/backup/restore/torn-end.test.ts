import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import fc from 'fast-check'
import { segmentName } from '#lib/lsn.ts'
import { walPageBytes } from '#postgres/wire/wal-page.ts'
import { walkRecords } from '#postgres/wire/wal-records.ts'
import { flushedText, partialName } from '../archive/spool-directory.ts'
import { faultIn } from './last-record.ts'
import { SpoolReader } from './spooled.ts'

const segmentBytes = 1024 * 1024
const start = BigInt(5 * segmentBytes)
const systemIdentifier = '7711677056603304589'
const segment = segmentName(1, start, segmentBytes)
const pages = 6
const sectorBytes = 512

const root = mkdtempSync(join(tmpdir(), 'torn-'))
const directory = join(root, systemIdentifier)
mkdirSync(directory)
after(() => rmSync(root, { recursive: true, force: true }))

/** The first pages of a segment with records of these body lengths, and where each of them ends. */
function logOf(bodies: readonly number[]): { bytes: Buffer; ends: number[] } {
  const bytes = Buffer.alloc(pages * walPageBytes)
  const ends: number[] = []
  let at = beginPage(bytes, 0, 0)
  let previous = start - 100n
  for (const length of bodies) {
    if (at + 24 + length + 1024 > bytes.length) break
    if (at % walPageBytes === 0) at = beginPage(bytes, at, 0)
    const begin = at
    for (let rest = recordOf(length, previous); rest.length > 0; ) {
      if (at % walPageBytes === 0) at = beginPage(bytes, at, rest.length)
      const copied = rest.copy(bytes, at, 0, Math.min(rest.length, walPageBytes - (at % walPageBytes)))
      rest = rest.subarray(copied)
      at += copied
    }
    previous = start + BigInt(begin)
    at = (at + 7) & ~7
    ends.push(at)
  }
  return { bytes, ends }
}

function beginPage(bytes: Buffer, at: number, continued: number): number {
  bytes.writeUInt16LE(0xd118, at)
  bytes.writeUInt16LE((at === 0 ? 2 : 0) | (continued > 0 ? 1 : 0), at + 2)
  bytes.writeUInt32LE(1, at + 4)
  bytes.writeBigUInt64LE(start + BigInt(at), at + 8)
  bytes.writeUInt32LE(continued, at + 16)
  if (at > 0) return at + 24
  bytes.writeBigUInt64LE(BigInt(systemIdentifier), 24)
  bytes.writeUInt32LE(segmentBytes, 32)
  bytes.writeUInt32LE(walPageBytes, 36)
  return 40
}

function recordOf(length: number, previous: bigint): Buffer {
  const body = Buffer.alloc(length, 0xab)
  const header = Buffer.alloc(24)
  header.writeUInt32LE(24 + length)
  header.writeBigUInt64LE(previous, 8)
  header.writeUInt8(10, 17)
  header.writeUInt32LE(crc32c(header.subarray(0, 20), crc32c(body)), 20)
  return Buffer.concat([header, body])
}

async function read(bytes: Buffer, flushed: number) {
  writeFileSync(join(directory, partialName(segment)), bytes)
  writeFileSync(join(directory, 'flushed'), flushedText({ segment, offset: flushed }))
  const piece = await new SpoolReader({ root, systemIdentifier, segmentBytes }).read(segment)
  assert.ok(piece)
  const fault = faultIn(piece.bytes, { start, segmentBytes, end: piece.end })
  return { piece, fault, end: Number(piece.end - start) }
}

/** A part was confirmed, the rest on its way: a power cut leaves any of its sectors as they were. */
const tear = fc
  .record({
    bodies: fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 4, maxLength: 60 }),
    confirmed: fc.double({ min: 0, max: 1, noNaN: true }),
    noted: fc.double({ min: 0, max: 1, noNaN: true }),
    lost: fc.array(fc.boolean(), { minLength: 16, maxLength: 16 }),
  })
  .map(({ bodies, lost, ...shares }) => {
    const { bytes, ends } = logOf(bodies)
    const at = (share: number) => Math.floor(share * (ends.length - 1))
    const confirmed = ends[at(shares.confirmed)] as number
    const noted = ends[at(shares.noted * shares.confirmed)] as number
    const torn = Buffer.from(bytes)
    for (let from = 0; from < torn.length; from += sectorBytes)
      if (lost[(from / sectorBytes) % lost.length])
        torn.fill(0, Math.max(from, confirmed), from + sectorBytes)
    return { bytes, torn, ends, confirmed, noted }
  })

test('whatever a power cut leaves of what was not confirmed, the log ends there and all that was is read', async () => {
  await fc.assert(
    fc.asyncProperty(tear, async ({ torn, bytes, confirmed, noted }) => {
      const { piece, fault, end } = await read(torn, noted)
      assert.equal(fault, undefined)
      assert.ok(piece.bytes.subarray(0, confirmed).equals(bytes.subarray(0, confirmed)))
      assert.ok(end >= confirmed, `${end} of ${confirmed}`)
      assert.equal(walkRecords(piece.bytes, { start, segmentBytes }).brokenAt, undefined)
    }),
    { numRuns: 300 },
  )
})

test('a wrong bit in what was confirmed is damage, noted or not', async () => {
  await fc.assert(
    fc.asyncProperty(tear, fc.nat(), async ({ bytes, ends, noted }, random) => {
      const at = 40 + (random % ((ends.at(-1) as number) - 48))
      const damaged = Buffer.from(bytes)
      damaged.writeUInt8(damaged.readUInt8(at) ^ 4, at)
      // Bytes that no checksum covers: headers of pages, and what fills a record up to a multiple of eight.
      const summary = walkRecords(damaged, { start, segmentBytes })
      if (summary.brokenAt === undefined || at % walPageBytes < 24) return
      const { piece, fault } = await read(damaged, noted)
      assert.notEqual(fault, undefined)
      assert.equal(piece.isTorn, undefined)
    }),
    { numRuns: 300 },
  )
})

test('a sector that is missing before the note is damage, behind it the end', async () => {
  const { bytes, ends } = logOf([600, 600, 2_000, 600, 600])
  const [, second = 0, third = 0, , last = 0] = ends
  bytes.fill(0, 2_048, 2_560)
  const early = await read(bytes, second)
  assert.deepEqual([early.end, early.fault, early.piece.isTorn], [second, undefined, true])
  for (const noted of [third, last]) {
    const late = await read(bytes, noted)
    assert.match(late.fault ?? '', /checksum/)
    assert.equal(late.piece.isTorn, undefined)
  }
})
