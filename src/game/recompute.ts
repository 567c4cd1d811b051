import { drawStops } from './draw.ts'
import { evaluate } from './evaluate.ts'
import { gameVersion } from './version.ts'

/** A stored round's seeds and bet, and the version it was played under. */
export interface PlayedRound {
  serverSeed: string
  clientSeed: string
  nonce: number
  stakePerLine: number
  lines: number
  version: string
}

/** Packed stops and payout in chips, as the round must have them; undefined for a version whose rules are not here. */
export function recompute(round: PlayedRound): { stops: number; payout: bigint } | undefined {
  if (round.version !== gameVersion) return undefined
  const stops = drawStops(round)
  return { stops, payout: BigInt(evaluate({ ...round, stops })) }
}
