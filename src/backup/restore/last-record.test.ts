import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { walPageBytes } from '#postgres/wire/wal-page.ts'
import { faultIn } from './last-record.ts'

const start = 0x5000000n
const segmentBytes = 16 * 1024 * 1024

/** The first page of a segment with records of these body lengths, and where each begins. */
function page(bodies: readonly number[]): { bytes: Buffer; begins: number[]; end: number } {
  const bytes = Buffer.alloc(walPageBytes)
  bytes.writeUInt16LE(0xd118, 0)
  bytes.writeUInt16LE(2, 2)
  bytes.writeUInt32LE(1, 4)
  bytes.writeBigUInt64LE(start, 8)
  bytes.writeBigUInt64LE(7711677056603304589n, 24)
  bytes.writeUInt32LE(segmentBytes, 32)
  bytes.writeUInt32LE(walPageBytes, 36)
  const begins: number[] = []
  let at = 40
  let previous = start - 100n
  for (const length of bodies) {
    begins.push(at)
    const body = Buffer.alloc(length, 0xab)
    const header = Buffer.alloc(24)
    header.writeUInt32LE(24 + length)
    header.writeBigUInt64LE(previous, 8)
    header.writeUInt8(10, 17)
    header.writeUInt32LE(crc32c(header.subarray(0, 20), crc32c(body)), 20)
    Buffer.concat([header, body]).copy(bytes, at)
    previous = start + BigInt(at)
    at = (at + 24 + length + 7) & ~7
  }
  return { bytes, begins, end: at }
}

for (const bodies of [[10, 30, 17], [25]]) {
  test(`each flipped bit of the last of ${bodies.length} records is told from an unfinished record`, () => {
    const { bytes, begins, end } = page(bodies)
    const facts = { start, segmentBytes, end: start + BigInt(end) }
    assert.equal(faultIn(bytes, facts), undefined)
    const last = begins.at(-1) ?? 0
    const length = 24 + (bodies.at(-1) ?? 0)
    for (let bit = last * 8; bit < (last + length) * 8; bit++) {
      const damaged = Buffer.from(bytes)
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      assert.notEqual(faultIn(damaged, facts), undefined, `bit ${bit & 7} of byte ${(bit >> 3) - last}`)
    }
  })
}

test('a record that goes on on a page that has not come is no fault', () => {
  const { bytes, begins } = page([10, 9_000])
  assert.ok(begins.length === 2)
  assert.equal(faultIn(bytes, { start, segmentBytes, end: start + BigInt(walPageBytes) }), undefined)
})
