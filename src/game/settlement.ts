import type { QueryResult } from 'pg'
import { bigintArray, integerArray, parseBigints, uuidArray } from '#ledger/arrays.ts'
import type { SpinRecord } from './render.ts'
import type { SpinJob } from './spin-job.ts'

/** How the database left one group of spins of one account. */
export type GroupOutcome =
  | { settled: true; roundIds: bigint[]; balanceBefore: bigint }
  | { settled: false; seedPairId: bigint; nonce: number; balance: bigint; replays: SpinJob[] }

/** Sends one statement; see Channel.query for how it may end. */
export type Send = (query: { name: string; text: string; values: unknown[]; rowMode: 'array' }) => Promise<QueryResult>

/** A lone spin takes the scalar function: half the work of a batch of one. */
export async function settleOne(send: Send, job: SpinJob, gameVersion: number): Promise<GroupOutcome> {
  const { rows } = await send({
    name: 'settle_spin',
    text: 'SELECT status, round_id, pair, nonce, balance FROM settle_spin($1, $2, $3, $4, $5, $6, $7, $8, $9::smallint)',
    values: [
      job.seat.accountId,
      job.seedPairId,
      job.nonce,
      job.key.toString('hex'),
      job.stakePerLine,
      job.lines,
      job.stops,
      job.payout,
      gameVersion,
    ],
    rowMode: 'array',
  })
  const [status, roundId, seedPairId, nonce, balance] = rows[0] as [string, bigint, bigint, bigint, bigint]
  if (status === 'settled') return { settled: true, roundIds: [roundId], balanceBefore: balance - job.payout + job.stake }
  const replays = status === 'replay' ? [job] : []
  return { settled: false, seedPairId, nonce: Number(nonce), balance, replays }
}

const settleSpins = `SELECT round_ids::text, balances::text, refused, replays
FROM settle_spins($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17::smallint)`

/** Groups are in account order; each holds one account's spins in the order in which they apply. */
export async function settleMany(send: Send, groups: SpinJob[][], gameVersion: number): Promise<GroupOutcome[]> {
  const values = [...encodeGroups(groups), ...encodeSpins(groups), gameVersion]
  const { rows } = await send({ name: 'settle_spins', text: settleSpins, values, rowMode: 'array' })
  const [roundIds, balances, refused, replays] = rows[0] as [string, string | null, unknown, number[] | null]
  return readOutcomes(groups, {
    roundIds: parseBigints(roundIds),
    balances: parseBigints(balances),
    refused: (refused ?? []) as Array<[bigint | string, bigint | string, bigint | string, bigint | string]>,
    replays: new Set(replays ?? []),
  })
}

/** What the spins of a group need, in chips: the least opening balance with which each finds its stake. */
export function requiredBalance(group: readonly SpinJob[]): bigint {
  let required = 0n
  let delta = 0n
  for (const job of group) {
    const needed = job.stake - delta
    if (needed > required) required = needed
    delta += job.payout - job.stake
  }
  return required
}

/** What a settled job's round says, in the shape that is rendered. */
export function spinRecord(job: SpinJob, roundId: bigint, balanceAfter: bigint): SpinRecord {
  return {
    roundId,
    nonce: job.nonce,
    serverSeedHash: job.serverSeedHash,
    clientSeed: job.clientSeed,
    stops: job.stops,
    lines: job.lines,
    stakePerLine: job.stakePerLine,
    stake: job.stake,
    payout: job.payout,
    balanceAfter,
  }
}

function encodeGroups(groups: SpinJob[][]): Buffer[] {
  const firsts = groups.map(group => group[0] as SpinJob)
  return [
    bigintArray(firsts.map(job => job.seat.accountId)),
    bigintArray(firsts.map(job => job.seedPairId)),
    bigintArray(firsts.map(job => BigInt(job.nonce))),
    bigintArray(groups.map(requiredBalance)),
    bigintArray(groups.map(group => group.reduce((sum, job) => sum + job.payout - job.stake, 0n))),
    integerArray(groups.map(group => group.length)),
  ]
}

function encodeSpins(groups: SpinJob[][]): Buffer[] {
  const spins = groups.flat()
  const deltas: bigint[] = []
  const positions: number[] = []
  groups.forEach((group, index) => {
    let delta = 0n
    for (const job of group) {
      delta += job.payout - job.stake
      deltas.push(delta)
      positions.push(index + 1)
    }
  })
  return [
    integerArray(positions),
    bigintArray(spins.map(job => job.seat.accountId)),
    uuidArray(spins.map(job => job.key)),
    bigintArray(spins.map(job => job.seedPairId)),
    bigintArray(spins.map(job => BigInt(job.nonce))),
    integerArray(spins.map(job => job.stakePerLine)),
    integerArray(spins.map(job => job.lines)),
    integerArray(spins.map(job => job.stops)),
    bigintArray(spins.map(job => job.payout)),
    bigintArray(deltas),
  ]
}

interface RawOutcome {
  roundIds: Array<bigint | undefined>
  balances: Array<bigint | undefined>
  refused: Array<[bigint | string, bigint | string, bigint | string, bigint | string]>
  replays: Set<number>
}

function readOutcomes(groups: SpinJob[][], raw: RawOutcome): GroupOutcome[] {
  const refused = new Map(raw.refused.map(([group, pair, nonce, balance]) => [Number(group), { pair, nonce, balance }]))
  let position = 0
  return groups.map((group, index) => {
    const first = position
    position += group.length
    const balanceBefore = raw.balances[index]
    if (balanceBefore !== undefined) {
      return { settled: true, roundIds: raw.roundIds.slice(first, position) as bigint[], balanceBefore }
    }
    const state = refused.get(index + 1)
    if (!state) throw new Error(`account ${group[0]?.seat.accountId} is not in the ledger`)
    const replays = group.filter((_, place) => raw.replays.has(first + place + 1))
    return {
      settled: false,
      seedPairId: BigInt(state.pair),
      nonce: Number(state.nonce),
      balance: BigInt(state.balance),
      replays,
    }
  })
}
