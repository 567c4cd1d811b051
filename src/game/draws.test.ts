import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chiSquare, rtpSigmas, sampleDraws, sampleSeed } from '#test/draws.ts'

// The seed is fixed, so that the suite gives one answer every time; test/long draws fresh ones.
const sample = sampleDraws({ seed: sampleSeed(1), draws: 200_000 })

test('200,000 draws stop evenly on every reel', t => {
  t.diagnostic(`MOONYETIS_SEED=${sample.seed}`)
  // 63 degrees of freedom: a fair reel exceeds 132 with probability 8.4e-7.
  for (const counts of sample.stopCounts) assert.ok(chiSquare(counts) < 132, `seed ${sample.seed}`)
})

test('200,000 draws return the exact RTP within three sigma', () => {
  const sigmas = rtpSigmas(sample)
  assert.ok(Math.abs(sigmas) < 3, `${sigmas} sigma from the exact RTP, seed ${sample.seed}`)
})
