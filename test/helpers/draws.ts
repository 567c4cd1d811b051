import { randomInt } from 'node:crypto'
import { drawStops, hashServerSeed, unpackStops } from '#game/draw.ts'
import { evaluate } from '#game/evaluate.ts'
import { betVariance, type Fraction, lineStatistics } from '#game/rtp.ts'

/** What many draws of one bet (all ten lines, one chip on each) came to. */
export interface DrawSample {
  seed: number
  draws: number
  /** Per reel, how often each of the 64 stops came. */
  stopCounts: number[][]
  /** Paid back per chip staked. */
  rtp: number
}

const lines = 10

// A seed pair lives this long here, so that a sample spans many seeds as real play does.
const drawsPerSeed = 100_000

/** The sample's seed: MOONYETIS_SEED to replay a run, else the given one, else a fresh one. */
export function sampleSeed(fallback: number = randomInt(2 ** 31)): number {
  return Number(process.env.MOONYETIS_SEED ?? fallback)
}

/** Draws and evaluates `draws` spins; the same seed gives the same sample. */
export function sampleDraws({ seed, draws }: { seed: number; draws: number }): DrawSample {
  const stopCounts = Array.from({ length: 5 }, () => new Array<number>(64).fill(0))
  let paid = 0
  for (let done = 0; done < draws; done++) {
    const serverSeed = seedAt(seed, Math.floor(done / drawsPerSeed))
    const stops = drawStops({ serverSeed, clientSeed: 'moonyetis', nonce: done % drawsPerSeed })
    paid += evaluate({ stops, lines, stakePerLine: 1 })
    unpackStops(stops).forEach((stop, reel) => {
      const counts = stopCounts[reel] as number[]
      counts[stop] = (counts[stop] as number) + 1
    })
  }
  return { seed, draws, stopCounts, rtp: paid / (draws * lines) }
}

let lastSeed = { key: '', value: '' }

function seedAt(seed: number, index: number): string {
  const key = `${seed}/${index}`
  // 64 hex characters that look like any server seed.
  if (lastSeed.key !== key) lastSeed = { key, value: hashServerSeed(key) }
  return lastSeed.value
}

/** Pearson's chi-square of the counts against equal shares; 64 stops give 63 degrees of freedom. */
export function chiSquare(counts: readonly number[]): number {
  const share = counts.reduce((sum, count) => sum + count, 0) / counts.length
  return counts.reduce((sum, count) => sum + (count - share) ** 2 / share, 0)
}

/** Distance of a sample's RTP from the exact one, in its own standard deviations. */
export function rtpSigmas({ rtp, draws }: DrawSample): number {
  const sigma = Math.sqrt(toNumber(betVariance(lines)) / draws) / lines
  return (rtp - toNumber(lineStatistics().rtp)) / sigma
}

function toNumber({ numerator, denominator }: Fraction): number {
  return Number(numerator) / Number(denominator)
}
