import type { IdempotencyKey } from '#ledger/keys.ts'
import { drawStops } from './draw.ts'
import { evaluate } from './evaluate.ts'
import type { Seat } from './seats.ts'

/** What a caller learns of a spin. */
export type SpinResult =
  | { kind: 'settled'; body: string; replayed: boolean }
  | { kind: 'short'; balance: bigint; stake: bigint }

/** One spin on its way through settlement. Drawn on arrival; drawn again if the database says another nonce is next. */
export interface SpinJob {
  readonly seat: Seat
  readonly key: IdempotencyKey
  readonly stakePerLine: number
  readonly lines: number
  readonly stake: bigint
  readonly submittedAtMs: number
  seedPairId: bigint
  serverSeedHash: string
  clientSeed: string
  nonce: number
  stops: number
  payout: bigint
  attempts: number
  /** A statement that holds this spin was sent and its end is not known. */
  outcomeUnknown: boolean
  answered: boolean
  resolve: (result: SpinResult) => void
  reject: (error: unknown) => void
}

/** Draws the spin from its seat's active pair; nobody has seen the earlier draw, and nothing stored it. */
export function drawAt(job: SpinJob, nonce: number): void {
  const { seat } = job
  job.seedPairId = seat.seedPairId
  job.serverSeedHash = seat.serverSeedHash
  job.clientSeed = seat.clientSeed
  job.nonce = nonce
  job.stops = drawStops({ serverSeed: seat.serverSeed, clientSeed: seat.clientSeed, nonce })
  job.payout = BigInt(evaluate(job))
}

/** True when the spin's draw is the one of this nonce of the seat's active pair. */
export function isDrawnAt(job: SpinJob, nonce: number): boolean {
  return job.nonce === nonce && job.seedPairId === job.seat.seedPairId
}

/** The payload under the key in one number, as settle_spin computes it: below 2^24. */
export function spinRequest(spin: { stakePerLine: number; lines: number }): number {
  return spin.stakePerLine * 16 + spin.lines
}
