import type { QueryResult } from 'pg'
import { ArrayWriter, parseBigints } from '#ledger/arrays.ts'
import type { SpinRecord } from './render.ts'
import { type SpinJob, spinRequest } from './spin-job.ts'

/** How the database left one group of spins of one account. */
export type GroupOutcome =
  | { kind: 'settled'; roundIds: bigint[]; balanceBefore: bigint }
  | { kind: 'refused'; seedPairId: bigint; nonce: number; balance: bigint; replays: SpinJob[] }
  /** Another settlement holds the account, so nothing certain is known yet. */
  | { kind: 'busy' }
  | { kind: 'unknown_account' }

/** Sends one statement; see Channel.query for how it may end. */
export type Send = (query: {
  name: string
  text: string
  values: unknown[]
  rowMode: 'array'
}) => Promise<QueryResult>

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
  if (status === 'settled')
    return { kind: 'settled', roundIds: [roundId], balanceBefore: balance - job.payout + job.stake }
  if (status === 'no_account') return { kind: 'unknown_account' }
  const replays = status === 'replay' ? [job] : []
  return { kind: 'refused', seedPairId, nonce: Number(nonce), balance, replays }
}

const settleSpins = `SELECT round_ids::text, balances::text, refused, replays
FROM settle_spins($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::smallint)`

/** Groups are in account order; each holds one account's spins in the order in which they apply. */
export async function settleMany(
  send: Send,
  groups: SpinJob[][],
  gameVersion: number,
): Promise<GroupOutcome[]> {
  const values = [...encodeGroups(groups), ...encodeSpins(groups), gameVersion]
  const { rows } = await send({ name: 'settle_spins', text: settleSpins, values, rowMode: 'array' })
  const [roundIds, balances, refused, replays] = rows[0] as [
    string,
    string | null,
    Refused[] | null,
    number[] | null,
  ]
  return readOutcomes(groups, {
    roundIds: parseBigints(roundIds),
    balances: parseBigints(balances),
    refused: refused ?? [],
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
  const count = groups.length
  const account = new ArrayWriter('bigint', count)
  const pair = new ArrayWriter('bigint', count)
  const nonce = new ArrayWriter('bigint', count)
  const required = new ArrayWriter('bigint', count)
  const delta = new ArrayWriter('bigint', count)
  const size = new ArrayWriter('integer', count)
  for (const group of groups) {
    const first = group[0] as SpinJob
    account.bigint(first.seat.accountId)
    pair.bigint(first.seedPairId)
    nonce.bigint(BigInt(first.nonce))
    required.bigint(requiredBalance(group))
    delta.bigint(group.reduce((sum, job) => sum + job.payout - job.stake, 0n))
    size.integer(group.length)
  }
  return [account, pair, nonce, required, delta, size].map(writer => writer.finish())
}

function encodeSpins(groups: SpinJob[][]): Buffer[] {
  const count = groups.reduce((sum, group) => sum + group.length, 0)
  const position = new ArrayWriter('integer', count)
  const key = new ArrayWriter('uuid', count)
  const nonce = new ArrayWriter('bigint', count)
  const request = new ArrayWriter('integer', count)
  const stops = new ArrayWriter('integer', count)
  const payout = new ArrayWriter('bigint', count)
  const delta = new ArrayWriter('bigint', count)
  groups.forEach((group, index) => {
    let sum = 0n
    for (const job of group) {
      sum += job.payout - job.stake
      position.integer(index + 1)
      key.uuid(job.key)
      nonce.bigint(BigInt(job.nonce))
      request.integer(spinRequest(job))
      stops.integer(job.stops)
      payout.bigint(job.payout)
      delta.bigint(sum)
    }
  })
  return [position, key, nonce, request, stops, payout, delta].map(writer => writer.finish())
}

/** [group, pair, nonce, balance], as pg reads nested arrays of bigint. */
type Refused = [string, string | null, string | null, string | null]

interface RawOutcome {
  roundIds: Array<bigint | undefined>
  balances: Array<bigint | undefined>
  refused: Refused[]
  replays: Set<number>
}

function readOutcomes(groups: SpinJob[][], raw: RawOutcome): GroupOutcome[] {
  const refused = new Map(
    raw.refused.map(([group, pair, nonce, balance]) => [Number(group), { pair, nonce, balance }]),
  )
  let position = 0
  return groups.map((group, index) => {
    const first = position
    position += group.length
    const balanceBefore = raw.balances[index]
    if (balanceBefore !== undefined) {
      return { kind: 'settled', roundIds: raw.roundIds.slice(first, position) as bigint[], balanceBefore }
    }
    const state = refused.get(index + 1)
    if (!state) return { kind: 'unknown_account' }
    if (state.pair === null || state.nonce === null || state.balance === null) return { kind: 'busy' }
    const replays = group.filter((_, place) => raw.replays.has(first + place + 1))
    return {
      kind: 'refused',
      seedPairId: BigInt(state.pair),
      nonce: Number(state.nonce),
      balance: BigInt(state.balance),
      replays,
    }
  })
}
