import { drawHmac, drawStops, hashServerSeed, unpackStops } from './draw.ts'
import { evaluate, gridOf, wins } from './evaluate.ts'
import type { GameSymbol } from './paytable.ts'
import { gameVersion } from './version.ts'

/** A round as its player knows it once the server seed is revealed; stakePerLine in chips, lines 1-10. */
export interface VerifyInput {
  serverSeed: string
  clientSeed: string
  nonce: number
  stakePerLine: number
  lines: number
}

/** What that round must have been under the present rules (`version`); amounts are digit strings of chips. */
export interface Verification {
  serverSeedHash: string
  hmac: string
  stops: number[]
  grid: GameSymbol[][]
  wins: { line: number; symbol: GameSymbol; count: number; payout: string }[]
  stake: string
  payout: string
  version: string
}

/** Recomputes a round from its seeds alone: no store, no session, nothing remembered. */
export function verify({ serverSeed, clientSeed, nonce, stakePerLine, lines }: VerifyInput): Verification {
  const stops = drawStops({ serverSeed, clientSeed, nonce })
  const bet = { stops, lines, stakePerLine }
  return {
    serverSeedHash: hashServerSeed(serverSeed),
    hmac: drawHmac({ serverSeed, clientSeed, nonce }),
    stops: unpackStops(stops),
    grid: gridOf(stops),
    wins: wins(bet).map(win => ({ ...win, payout: String(win.payout) })),
    stake: String(stakePerLine * lines),
    payout: String(evaluate(bet)),
    version: gameVersion,
  }
}
