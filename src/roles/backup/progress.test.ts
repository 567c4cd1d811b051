import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { barText, duration, megabytes } from './progress.ts'

describe('progress', () => {
  test('shows share, amounts, rate and the time that is left', () => {
    assert.equal(
      barText({
        phase: 'reading',
        done: 512e6,
        total: 1024e6,
        unit: 'bytes',
        perSecond: 230e6,
        etaSeconds: 2.2,
      }),
      '[############            ]   50 %  512 of 1024 MB  230 MB/s  3 s left  reading',
    )
    assert.equal(
      barText({ phase: 'listing', done: 3, total: 0, unit: 'objects' }),
      '[                        ]    0 %  3 objects  listing',
    )
  })

  test('never shows more than all of it', () => {
    assert.match(barText({ phase: 'x', done: 11, total: 10, unit: 'files' }), /^\[#{24}\] {2}100 %/)
  })

  test('amounts and times are short', () => {
    assert.deepEqual([0, 123, 1_500_000, 99_000_000, 1_234_000_000].map(megabytes), [
      '0',
      '0.0',
      '1.5',
      '99',
      '1234',
    ])
    assert.deepEqual([0.2, 119, 121, 7200].map(duration), ['1 s', '119 s', '3 min', '2.0 h'])
  })
})
