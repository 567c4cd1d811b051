import { unpackStops } from './draw.ts'
import { paylines } from './paylines.ts'
import { type GameSymbol, payOf, symbols, wild } from './paytable.ts'
import { stopsPerReel, strips } from './strips.ts'

/** A settled draw seen as a bet: packed stops, the first `lines` (1-10) paylines, chips staked on each. */
export interface Bet {
  stops: number
  lines: number
  stakePerLine: number
}

/** One winning line, counted from 1; payout in chips. */
export interface Win {
  line: number
  symbol: GameSymbol
  count: number
  payout: number
}

/** The best run of a line from the left; pay in multiples of the line's stake, 0 for none. */
export interface LineRun {
  symbol: GameSymbol
  count: number
  pay: number
}

/**
 * The payout of a bet in chips. A plain number is exact here: the most is 10 lines x 1,000 x 1,000,000 chips = 10^10,
 * far below 2^53. Callers turn it into a bigint where it becomes money.
 */
export function evaluate({ stops, lines, stakePerLine }: Bet): number {
  let multiple = 0
  for (let line = 0; line < lines; line++) multiple += linePays[lineIndex(stops, line)] as number
  return multiple * stakePerLine
}

/** The winning lines of a bet, in line order; at most one win per line. */
export function wins({ stops, lines, stakePerLine }: Bet): Win[] {
  const found: Win[] = []
  for (let line = 0; line < lines; line++) {
    const index = lineIndex(stops, line)
    const pay = linePays[index] as number
    if (pay === 0) continue
    const run = lineRuns[index] as number
    const symbol = symbols[run >>> 3] as GameSymbol
    found.push({ line: line + 1, symbol, count: run & 7, payout: pay * stakePerLine })
  }
  return found
}

/** What the five columns show, each top to bottom. */
export function gridOf(stops: number): GameSymbol[][] {
  return unpackStops(stops).map((stop, reel) => columnAt(reel, stop))
}

/** The three symbols that a reel shows at a stop: the one above, the stop itself, the one below. */
export function columnAt(reel: number, stop: number): GameSymbol[] {
  return [0, 1, 2].map(row => symbolAt(reel, stop, row))
}

/** The symbol in a row (0-2) of a reel at a stop. */
export function symbolAt(reel: number, stop: number, row: number): GameSymbol {
  const place = (stop + row - 1 + stopsPerReel) % stopsPerReel
  return (strips[reel] as readonly GameSymbol[])[place] as GameSymbol
}

/**
 * The rule of one line, written plainly; the tables below are made from it. The better of the wild run and the
 * symbol run pays; when both pay the same, the longer one (the symbol run) is named.
 */
export function bestRun(line: readonly GameSymbol[]): LineRun {
  const wildCount = runLength(line, symbol => symbol === wild)
  const wildRun = { symbol: wild, count: wildCount, pay: payOf(wild, wildCount) }
  const symbol = line[wildCount]
  if (symbol === undefined) return wildRun
  const count = runLength(line, other => other === symbol || other === wild)
  const symbolRun = { symbol, count, pay: payOf(symbol, count) }
  return symbolRun.pay >= wildRun.pay ? symbolRun : wildRun
}

function runLength(line: readonly GameSymbol[], matches: (symbol: GameSymbol) => boolean): number {
  const end = line.findIndex(symbol => !matches(symbol))
  return end === -1 ? line.length : end
}

// A line's five symbol codes of three bits each, reel 0 highest, are its place in these 8^5 tables.
const linePays = new Uint16Array(8 ** 5)
const lineRuns = new Uint8Array(8 ** 5)
fillLineTables()

function fillLineTables(): void {
  for (let index = 0; index < linePays.length; index++) {
    const line = [12, 9, 6, 3, 0].map(shift => symbols[(index >>> shift) & 7] as GameSymbol)
    const { symbol, count, pay } = bestRun(line)
    linePays[index] = pay
    lineRuns[index] = (symbols.indexOf(symbol) << 3) | count
  }
}

// For each line and reel, 64 codes by stop, already shifted to the reel's place in the index: five loads give a
// line's index without looking at rows or strips.
const codes = Uint16Array.from(paylines.flatMap(rows => rows.flatMap(codesByStop)))

function codesByStop(row: number, reel: number): number[] {
  return Array.from({ length: stopsPerReel }, (_, stop) => {
    return symbols.indexOf(symbolAt(reel, stop, row)) << (3 * (4 - reel))
  })
}

function lineIndex(stops: number, line: number): number {
  const base = line * 5 * stopsPerReel
  return (
    (codes[base + (stops >>> 24)] as number) |
    (codes[base + 64 + ((stops >>> 18) & 63)] as number) |
    (codes[base + 128 + ((stops >>> 12) & 63)] as number) |
    (codes[base + 192 + ((stops >>> 6) & 63)] as number) |
    (codes[base + 256 + (stops & 63)] as number)
  )
}
