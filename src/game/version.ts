import { hash } from 'node:crypto'
import { drawAlgorithm } from './draw.ts'
import { paylines } from './paylines.ts'
import { paytable, wild } from './paytable.ts'
import { lineStatistics } from './rtp.ts'
import { strips } from './strips.ts'

// Names the rule of evaluate.ts; change it when the rule changes, so that the version does too.
const lineRule = `one win per line from the left; ${wild} substitutes; better of wild run and symbol run`

/**
 * Names everything that turns seeds into a payout: 16 hex characters, stored in each round, so that a round is
 * always judged by the rules it was played under.
 */
export const gameVersion: string = hash(
  'sha256',
  canonicalJson({ draw: drawAlgorithm, rule: lineRule, strips, paylines, paytable }),
  'hex',
).slice(0, 16)

/** The body of GET /api/game/config: all that a verifier needs besides a revealed seed. */
export const gameConfig = deepFreeze({
  strips: strips.map(strip => [...strip]),
  paylines: paylines.map(line => [...line]),
  paytable: { ...paytable },
  rtp: exactRtp(),
  version: gameVersion,
})

function exactRtp(): { numerator: string; denominator: string } {
  const { numerator, denominator } = lineStatistics().rtp
  return { numerator: String(numerator), denominator: String(denominator) }
}

// Sorted keys: the order in which a table happens to be written is not part of the game.
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (part === null || typeof part !== 'object' || Array.isArray(part)) return part
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

function deepFreeze<T extends object>(value: T): Readonly<T> {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) deepFreeze(part)
  return Object.freeze(value)
}
