import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { unpackStops } from './draw.ts'
import { bestRun, evaluate, gridOf, wins } from './evaluate.ts'
import { paylines } from './paylines.ts'
import { type GameSymbol, paytable, symbols } from './paytable.ts'
import { strips } from './strips.ts'

const bets = fc.record({
  stops: fc.nat({ max: 2 ** 30 - 1 }),
  lines: fc.integer({ min: 1, max: 10 }),
  stakePerLine: fc.integer({ min: 1, max: 1_000_000 }),
})

/** Tries every symbol and length and keeps the dearest: shares no step with the evaluator under test. */
function naivePay(line: readonly GameSymbol[]): number {
  let best = 0
  for (const symbol of symbols) {
    for (const count of [3, 4, 5]) {
      const run = line.slice(0, count)
      const matches = run.every(other => other === symbol || other === 'yeti')
      // Wilds alone pay as wilds, not as any symbol they might stand for.
      const present = run.includes(symbol)
      if (matches && present) best = Math.max(best, paytable[symbol][count - 3] as number)
    }
  }
  return best
}

function naiveLine(stops: number, line: number): GameSymbol[] {
  const rows = paylines[line] as readonly number[]
  return unpackStops(stops).map((stop, reel) => {
    return (strips[reel] as readonly GameSymbol[]).at((stop - 1 + (rows[reel] as number)) % 64) as GameSymbol
  })
}

test('all 32,768 rows of symbols pay what a naive reading of the paytable pays', () => {
  for (let index = 0; index < 8 ** 5; index++) {
    const line = [...index.toString(8).padStart(5, '0')].map(digit => symbols[Number(digit)] as GameSymbol)
    assert.equal(bestRun(line).pay, naivePay(line), line.join())
  }
})

test('the fast path pays the sum of what each line pays naively', () => {
  const holds = fc.property(bets, bet => {
    const pays = Array.from({ length: bet.lines }, (_, line) => naivePay(naiveLine(bet.stops, line)))
    assert.equal(evaluate(bet), pays.reduce((sum, pay) => sum + pay, 0) * bet.stakePerLine)
  })
  fc.assert(holds, { seed: 1, numRuns: 5_000 })
})

test('wins name one win per paying line and add up to the payout', () => {
  const holds = fc.property(bets, bet => {
    const found = wins(bet)
    assert.equal(
      found.reduce((sum, win) => sum + win.payout, 0),
      evaluate(bet),
    )
    assert.equal(new Set(found.map(win => win.line)).size, found.length)
    for (const { line, symbol, count, payout } of found) {
      const run = naiveLine(bet.stops, line - 1).slice(0, count)
      assert.ok(run.every(other => other === symbol || other === 'yeti'))
      assert.equal(payout, (paytable[symbol][count - 3] as number) * bet.stakePerLine)
    }
  })
  fc.assert(holds, { seed: 1, numRuns: 5_000 })
})

test('the better of wild run and symbol run pays, and at equal pay the longer run is named', () => {
  const run = (...line: GameSymbol[]) => Object.values(bestRun(line)).join(' ')
  assert.equal(run('yeti', 'yeti', 'yeti', 'ufo', 'star'), 'yeti 3 40')
  assert.equal(run('yeti', 'yeti', 'yeti', 'ufo', 'ufo'), 'ufo 5 80')
  assert.equal(run('yeti', 'yeti', 'yeti', 'yeti', 'ufo'), 'yeti 4 200')
  assert.equal(run('yeti', 'yeti', 'yeti', 'yeti', 'coin'), 'coin 5 200')
  assert.equal(run('yeti', 'yeti', 'yeti', 'star', 'ufo'), 'star 4 40')
  assert.equal(run('yeti', 'yeti', 'yeti', 'yeti', 'yeti'), 'yeti 5 1000')
  assert.equal(run('rocket', 'yeti', 'rocket', 'ufo', 'rocket'), 'rocket 3 30')
  assert.equal(bestRun(['ufo', 'star', 'ufo', 'ufo', 'ufo']).pay, 0)
})

test('the grid shows the stop in the middle row, its neighbours around it, and wraps', () => {
  const grid = gridOf(63) // reels at 0, 0, 0, 0, 63
  const first = strips[0] as readonly GameSymbol[]
  const last = strips[4] as readonly GameSymbol[]
  assert.deepEqual(grid[0], [first[63], first[0], first[1]])
  assert.deepEqual(grid[4], [last[62], last[63], last[0]])
})
