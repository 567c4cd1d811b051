import { bigintArray, uuidArray } from '#ledger/arrays.ts'
import type { SpinRecord } from './render.ts'
import type { Send } from './settlement.ts'
import type { SpinJob } from './spin-job.ts'

/** A spin as the books have it. */
export interface StoredSpin {
  requestHash: bigint
  record: SpinRecord
}

const columns = `ordinal, request_hash, round_id, nonce, stake_per_line, lines, stops, payout, balance_after,
  server_seed_hash, client_seed`

type OutcomeRow = [number, bigint, bigint, bigint, number, number, number, bigint, bigint, string, string]

/** The stored outcomes of the jobs' keys; a job without one is not in the map. Durable before it returns (see SQL). */
export async function readStoredSpins(
  send: Send,
  jobs: readonly SpinJob[],
): Promise<Map<SpinJob, StoredSpin>> {
  const { rows } = await send({
    name: 'read_outcomes',
    text: `SELECT ${columns} FROM read_outcomes($1, $2)`,
    values: [bigintArray(jobs.map(job => job.seat.accountId)), uuidArray(jobs.map(job => job.key))],
    rowMode: 'array',
  })
  return new Map((rows as OutcomeRow[]).map(row => [jobs[row[0] - 1] as SpinJob, storedSpin(row)]))
}

function storedSpin(row: OutcomeRow): StoredSpin {
  const [
    ,
    requestHash,
    roundId,
    nonce,
    stakePerLine,
    lines,
    stops,
    payout,
    balanceAfter,
    serverSeedHash,
    clientSeed,
  ] = row
  const stake = BigInt(stakePerLine * lines)
  return {
    requestHash,
    record: {
      roundId,
      nonce,
      serverSeedHash,
      clientSeed,
      stops,
      lines,
      stakePerLine,
      stake,
      payout,
      balanceAfter,
    },
  }
}
