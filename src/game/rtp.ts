import { bestRun, symbolAt } from './evaluate.ts'
import { type Payline, paylines } from './paylines.ts'
import { type GameSymbol, payOf, symbols, wild } from './paytable.ts'
import { stopsPerReel, strips } from './strips.ts'

/** An exact number in lowest terms. */
export interface Fraction {
  numerator: bigint
  denominator: bigint
}

/** How often each symbol (by code) is met on each of the five reels. */
export type Weights = readonly (readonly number[])[]

/**
 * What one line returns per unit staked: the mean (RTP), the share of spins that pay anything, and the variance.
 * By linearity the RTP holds for any number of lines.
 */
export interface LineStatistics {
  rtp: Fraction
  hitRate: Fraction
  variance: Fraction
}

/** Symbol counts of the five strips, as the paytable page states them. */
export function stripWeights(): Weights {
  return strips.map(strip => symbols.map(symbol => strip.filter(other => other === symbol).length))
}

/** Symbol counts in the cells that a payline crosses, taken from the 64 windows of each reel. */
export function paylineWeights(line: Payline): Weights {
  return line.map((row, reel) => {
    const seen = Array.from({ length: stopsPerReel }, (_, stop) => symbolAt(reel, stop, row))
    return symbols.map(symbol => seen.filter(other => other === symbol).length)
  })
}

/** Exact statistics of one line by enumerating all 8^5 symbol rows, each weighted by how often it occurs. */
export function lineStatistics(weights: Weights = stripWeights()): LineStatistics {
  let paid = 0n
  let hits = 0n
  let squares = 0n
  forEachRow(weights, (row, ways) => {
    const { pay } = bestRun(row)
    if (pay === 0) return
    paid += BigInt(ways) * BigInt(pay)
    squares += BigInt(ways) * BigInt(pay * pay)
    hits += BigInt(ways)
  })
  const rows = BigInt(stopsPerReel) ** 5n
  return {
    rtp: fraction(paid, rows),
    hitRate: fraction(hits, rows),
    variance: fraction(squares * rows - paid * paid, rows * rows),
  }
}

function forEachRow(weights: Weights, visit: (row: GameSymbol[], ways: number) => void): void {
  for (let index = 0; index < 8 ** 5; index++) {
    const codes = [12, 9, 6, 3, 0].map(shift => (index >>> shift) & 7)
    const ways = codes.reduce((product, code, reel) => product * (weights[reel]?.[code] ?? 0), 1)
    if (ways > 0)
      visit(
        codes.map(code => symbols[code] as GameSymbol),
        ways,
      )
  }
}

/**
 * Exact variance of what a bet on the first `lines` paylines returns, one chip on each. Lines share reels, so their
 * wins are correlated and the variances do not simply add up; the covariances come from the real strips.
 */
export function betVariance(lines: number): Fraction {
  const windows = BigInt(stopsPerReel) ** 5n
  const played = paylines.slice(0, lines)
  let squares = 0n
  for (const a of played) for (const b of played) squares += sumOfProducts(a, b)
  const { rtp } = lineStatistics()
  const paid = (BigInt(lines) * rtp.numerator * windows) / rtp.denominator
  return fraction(squares * windows - paid * paid, windows * windows)
}

/** Sum over all 64^5 windows of pay(a) x pay(b), carried reel by reel through the states of both lines. */
function sumOfProducts(a: Payline, b: Payline): bigint {
  let states = new Map([[`${freshLine},${freshLine}`, 1]])
  for (let reel = 0; reel < 5; reel++) {
    const next = new Map<string, number>()
    for (const [key, ways] of states) {
      const [stateA, stateB] = key.split(',').map(Number) as [number, number]
      for (let stop = 0; stop < stopsPerReel; stop++) {
        const afterA = advance(stateA, symbolAt(reel, stop, a[reel] as number), reel)
        const afterB = advance(stateB, symbolAt(reel, stop, b[reel] as number), reel)
        if (afterA === lostLine || afterB === lostLine) continue
        const after = `${afterA},${afterB}`
        next.set(after, (next.get(after) ?? 0) + ways)
      }
    }
    states = next
  }
  let sum = 0n
  for (const [key, ways] of states) {
    const [stateA, stateB] = key.split(',').map(Number) as [number, number]
    sum += BigInt(ways) * BigInt(finalPay(stateA, 5)) * BigInt(finalPay(stateB, 5))
  }
  return sum
}

// A line read from the left is either still running, leading wilds << 3 | code of its symbol (the wild's own code
// while no other has come), or ended, -1 - pay. A line that ended unpaid can add nothing.
const wildCode = symbols.indexOf(wild)
const freshLine = wildCode
const lostLine = -1

function advance(state: number, symbol: GameSymbol, reel: number): number {
  if (state < 0) return state
  const code = symbols.indexOf(symbol)
  const running = state & 7
  if (code === wildCode) return running === wildCode ? state + 8 : state
  if (running === wildCode) return (state & ~7) | code
  return code === running ? state : -1 - finalPay(state, reel)
}

function finalPay(state: number, length: number): number {
  if (state < 0) return -1 - state
  const wilds = payOf(wild, state >>> 3)
  const running = state & 7
  return running === wildCode ? wilds : Math.max(wilds, payOf(symbols[running] as GameSymbol, length))
}

function fraction(numerator: bigint, denominator: bigint): Fraction {
  let [a, b] = [numerator, denominator]
  while (b !== 0n) [a, b] = [b, a % b]
  return { numerator: numerator / a, denominator: denominator / a }
}
