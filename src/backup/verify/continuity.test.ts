import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { reachOf, type StoredLog } from './continuity.ts'

const segmentBytes = 16 * 1024 * 1024
const size = BigInt(segmentBytes)
const at = (segment: number, offset = 0) => BigInt(segment) * size + BigInt(offset)

function log(segments: Record<number, number[]>, facts: Partial<StoredLog> = {}): StoredLog {
  const map = new Map(Object.entries(segments).map(([tli, list]) => [Number(tli), list.map(one => at(one))]))
  return { segmentBytes, segments: map, tails: new Map(), parents: new Map(), ...facts }
}
const need = { timeline: 1, start: at(5, 40), stop: at(5, 300) }

describe('the reach of a backup', () => {
  test('is the end of the last segment without a hole before it', () => {
    assert.deepEqual(reachOf(need, log({ 1: [3, 4, 5, 6, 7] })), { holes: [], timeline: 1, through: at(8) })
  })

  test('goes on into the open segment', () => {
    const tails = new Map([[1, new Map([[at(7), at(7, 99)]])]])
    assert.equal(reachOf(need, log({ 1: [5, 6] }, { tails })).through, at(7, 99))
    const only = new Map([[1, new Map([[at(5), at(5, 300)]])]])
    assert.deepEqual(reachOf(need, log({}, { tails: only })), { holes: [], timeline: 1, through: at(5, 300) })
  })

  test('ends at a hole, which is told whole', () => {
    const { holes, through } = reachOf(need, log({ 1: [5, 8, 9, 11] }))
    assert.deepEqual(holes, [
      { timeline: 1, from: at(6), to: at(8) },
      { timeline: 1, from: at(10), to: at(11) },
    ])
    assert.equal(through, at(6))
  })

  test('a log that ends before the backup does has a hole there', () => {
    assert.deepEqual(reachOf(need, log({ 1: [4] })).holes, [{ timeline: 1, from: at(5), to: at(5, 300) }])
    const long = { ...need, stop: at(9, 1) }
    assert.deepEqual(reachOf(long, log({ 1: [5, 6] })).holes, [{ timeline: 1, from: at(7), to: at(9, 1) }])
  })

  test('follows the newest timeline that descends from the backup', () => {
    const parents = new Map([
      [2, [{ timeline: 1, end: at(7, 50) }]],
      [3, [{ timeline: 1, end: at(4, 50) }]],
      [
        4,
        [
          { timeline: 1, end: at(7, 50) },
          { timeline: 2, end: at(9, 10) },
        ],
      ],
    ])
    const stored = log({ 1: [5, 6, 7, 8], 2: [7, 8], 3: [4, 5], 4: [9, 10] }, { parents })
    assert.deepEqual(reachOf(need, stored), { holes: [], timeline: 4, through: at(11) })
    const broken = log({ 1: [5, 6], 2: [8], 4: [9] }, { parents })
    assert.deepEqual(reachOf(need, broken).holes, [{ timeline: 2, from: at(7), to: at(8) }])
  })

  test('any segment that is taken out before the last is found', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 40 }), fc.nat(), (count, which) => {
        const all = Array.from({ length: count }, (_, i) => 5 + i)
        const gone = 5 + (which % (count - 1))
        const { holes, through } = reachOf(need, log({ 1: all.filter(one => one !== gone) }))
        assert.deepEqual(holes, [{ timeline: 1, from: at(gone), to: at(gone + 1) }])
        assert.equal(through, at(gone))
      }),
    )
  })
})
