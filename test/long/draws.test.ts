import assert from 'node:assert/strict'
import { test } from 'node:test'
import { evaluate } from '#game/evaluate.ts'
import { betVariance, lineStatistics } from '#game/rtp.ts'
import { chiSquare, rtpSigmas, sampleDraws, sampleSeed } from '#test/draws.ts'

test('ten million draws stop evenly and return the exact RTP within three sigma', t => {
  const seed = sampleSeed()
  t.diagnostic(`MOONYETIS_SEED=${seed}`)
  const sample = sampleDraws({ seed, draws: 10_000_000 })
  const chiSquares = sample.stopCounts.map(chiSquare)
  const sigmas = rtpSigmas(sample)
  t.diagnostic(
    `chi-square ${chiSquares.map(x => x.toFixed(1))}; rtp ${sample.rtp}, ${sigmas.toFixed(2)} sigma`,
  )
  // 63 degrees of freedom: a fair reel exceeds 132 with probability 8.4e-7.
  for (const value of chiSquares) assert.ok(value < 132, `chi-square ${value}, seed ${seed}`)
  // About one honest run in 370 lies beyond three sigma. Run another seed: only a real bias comes back.
  assert.ok(Math.abs(sigmas) < 3, `${sigmas} sigma from the exact RTP, seed ${seed}`)
})

test('all 2^30 windows together pay exactly the enumerated RTP and variance of a ten-line bet', () => {
  const windows = 2 ** 30
  let paid = 0
  let squares = 0 // below 2^30 x 708: exact
  const bet = { stops: 0, lines: 10, stakePerLine: 1 }
  for (bet.stops = 0; bet.stops < windows; bet.stops++) {
    const payout = evaluate(bet)
    if (payout === 0) continue
    paid += payout
    squares += payout * payout
  }
  const { rtp } = lineStatistics()
  assert.equal(BigInt(paid) * rtp.denominator, 10n * rtp.numerator * BigInt(windows))
  const variance = betVariance(10)
  const scaled = BigInt(squares) * BigInt(windows) - BigInt(paid) ** 2n
  assert.equal(scaled * variance.denominator, variance.numerator * BigInt(windows) ** 2n)
})
