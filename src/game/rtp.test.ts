import assert from 'node:assert/strict'
import { test } from 'node:test'
import { paylines } from './paylines.ts'
import { symbols } from './paytable.ts'
import { betVariance, lineStatistics, paylineWeights, stripWeights } from './rtp.ts'

test('the exact RTP of one line is 32227167/33554432', () => {
  assert.deepEqual(lineStatistics().rtp, { numerator: 32_227_167n, denominator: 33_554_432n })
})

test('hit rate is 4.900 % and variance 55.5 per line', () => {
  const { hitRate, variance } = lineStatistics()
  assert.deepEqual(hitRate, { numerator: 3_211n, denominator: 65_536n })
  assert.equal((Number(variance.numerator) / Number(variance.denominator)).toFixed(2), '55.55')
})

test('every payline meets each symbol exactly as often as the strips hold it, so all lines share one RTP', () => {
  for (const line of paylines) {
    const weights = paylineWeights(line)
    assert.deepEqual(weights, stripWeights())
    assert.deepEqual(lineStatistics(weights), lineStatistics())
  }
})

test('the declared weights are the contract’s', () => {
  const counts = { yeti: 3, rocket: 5, moon: 6, coin: 7, star: 9, planet: 10, alien: 11, ufo: 13 }
  for (const reel of stripWeights())
    assert.deepEqual(
      reel,
      symbols.map(symbol => counts[symbol]),
    )
})

test('a one-line bet has the variance of its line; ten lines add their covariances', () => {
  assert.deepEqual(betVariance(1), lineStatistics().variance)
  // test/long/draws.test.ts finds the same number by visiting all 2^30 windows.
  const expected = { numerator: 173_328_656_538_639_527n, denominator: 281_474_976_710_656n }
  assert.deepEqual(betVariance(10), expected)
})
