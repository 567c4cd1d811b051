import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  defaultSegmentBytes,
  formatLsn,
  historyName,
  parseLsn,
  parseSegmentName,
  segmentName,
  segmentStart,
} from './lsn.ts'

const anyLsn = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })
const anySize = fc.constantFrom(1, 2, 16, 64, 1024).map(megabytes => megabytes * 1024 * 1024)

describe('positions in the write-ahead log', () => {
  test('are read and printed as PostgreSQL does', () => {
    assert.equal(parseLsn('0/5B000028'), 0x5b000028n)
    assert.equal(parseLsn('2A/0'), 0x2a_0000_0000n)
    assert.equal(formatLsn(0x2a_0000_0abcn), '2A/ABC')
    for (const wrong of ['', '0', '0/', '/0', 'G/0', '0/123456789', ' 0/0'])
      assert.equal(parseLsn(wrong), undefined)
  })

  test('come back from their text', () => {
    fc.assert(fc.property(anyLsn, lsn => assert.equal(parseLsn(formatLsn(lsn)), lsn)))
  })

  test('name the segment that holds them', () => {
    assert.equal(segmentName(1, 0x5b000028n, defaultSegmentBytes), '00000001000000000000005B')
    assert.equal(segmentName(10, 0x1_ff00_0000n, defaultSegmentBytes), '0000000A00000001000000FF')
    assert.equal(historyName(2), '00000002.history')
  })

  test('come back from a segment name as its first byte, for every segment size', () => {
    fc.assert(
      fc.property(anyLsn, anySize, fc.integer({ min: 1, max: 0xffff_ffff }), (lsn, bytes, timeline) => {
        assert.deepEqual(parseSegmentName(segmentName(timeline, lsn, bytes), bytes), {
          timeline,
          start: segmentStart(lsn, bytes),
        })
      }),
    )
  })

  test('a name that no segment has is refused', () => {
    assert.equal(parseSegmentName('000000010000000000000100', defaultSegmentBytes), undefined)
    assert.equal(parseSegmentName('00000001000000000000005B.partial', defaultSegmentBytes), undefined)
    assert.equal(parseSegmentName('00000001000000000000005b', defaultSegmentBytes), undefined)
  })
})
