import { columnAt, wins } from './evaluate.ts'
import { stopsPerReel } from './strips.ts'

/** What a stored round holds of a spin's answer; amounts in chips. */
export interface SpinRecord {
  roundId: bigint | string
  nonce: number | bigint
  serverSeedHash: string
  clientSeed: string
  /** Packed, as `drawStops` gives them. */
  stops: number
  lines: number
  stakePerLine: number
  stake: bigint | number
  payout: bigint | number
  balanceAfter: bigint | number
}

/** A spin with what history adds; `version` is the game's version the round was played under. */
export interface RoundRecord extends SpinRecord {
  version: string
  createdAt: Date
  /** Once it is public: after a rotation, or when a recovery retired the pair. */
  serverSeed?: string
}

/**
 * The JSON body of a spin's answer. Depends on nothing but the record, so a replay rendered from the stored round is
 * equal byte for byte. Text is joined, not stringified: every string in it is hex, digits, a symbol's name or a
 * client seed, none of which JSON would escape.
 */
export function renderSpin(spin: SpinRecord): string {
  return `{"round":{${roundMembers(spin)}},"balance":"${spin.balanceAfter}"}`
}

/** One entry of a player's history: the spin's round and what is needed to recompute it. */
export function renderRound(round: RoundRecord): string {
  const seed = round.serverSeed === undefined ? '' : `,"serverSeed":"${round.serverSeed}"`
  return (
    `{${roundMembers(round)},"stakePerLine":"${round.stakePerLine}","lines":${round.lines},` +
    `"version":"${round.version}","createdAt":"${round.createdAt.toISOString()}",` +
    `"balanceAfter":"${round.balanceAfter}"${seed}}`
  )
}

function roundMembers(spin: SpinRecord): string {
  const s0 = spin.stops >>> 24
  const s1 = (spin.stops >>> 18) & 63
  const s2 = (spin.stops >>> 12) & 63
  const s3 = (spin.stops >>> 6) & 63
  const s4 = spin.stops & 63
  return (
    `"id":"${spin.roundId}","nonce":${spin.nonce},"serverSeedHash":"${spin.serverSeedHash}",` +
    `"clientSeed":"${spin.clientSeed}","stops":[${s0},${s1},${s2},${s3},${s4}],` +
    `"grid":[${column(0, s0)},${column(1, s1)},${column(2, s2)},${column(3, s3)},${column(4, s4)}],` +
    `"wins":[${winsJson(spin)}],"stake":"${spin.stake}","payout":"${spin.payout}"`
  )
}

function winsJson(spin: SpinRecord): string {
  return wins(spin)
    .map(w => `{"line":${w.line},"symbol":"${w.symbol}","count":${w.count},"payout":"${w.payout}"}`)
    .join(',')
}

// Every column a reel can show, as JSON: 320 short strings.
const columns = Array.from({ length: 5 * stopsPerReel }, (_, index) => {
  return JSON.stringify(columnAt(Math.floor(index / stopsPerReel), index % stopsPerReel))
})

function column(reel: number, stop: number): string {
  return columns[reel * stopsPerReel + stop] as string
}
