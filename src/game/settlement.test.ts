import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { QueryResult } from 'pg'
import type { Seat } from './seats.ts'
import { requiredBalance, type Send, settleMany, settleOne, spinRecord } from './settlement.ts'
import type { SpinJob } from './spin-job.ts'

function job(o: Partial<SpinJob> & { accountId?: bigint } = {}): SpinJob {
  const { accountId = 1000n, ...rest } = o
  return {
    seat: { accountId } as Seat,
    key: Buffer.alloc(16, 7),
    stakePerLine: 2,
    lines: 5,
    stake: 10n,
    seedPairId: 3n,
    serverSeedHash: 'hash',
    clientSeed: 'seed',
    nonce: 4,
    stops: 99,
    payout: 0n,
    ...rest,
  } as SpinJob
}

/** Answers any statement with one row, and keeps what was sent. */
function server(...row: unknown[]) {
  const sent: Parameters<Send>[0][] = []
  const send: Send = async query => {
    sent.push(query)
    return { rows: [row] } as unknown as QueryResult
  }
  return { send, sent }
}

test('the least opening balance lets each spin find its stake, and one chip less does not', () => {
  const moves = fc.array(
    fc.record({ stake: fc.bigInt({ min: 1n, max: 50n }), payout: fc.bigInt({ min: 0n, max: 100n }) }),
    { minLength: 1, maxLength: 20 },
  )
  const survives = (balance: bigint, spins: Array<{ stake: bigint; payout: bigint }>) =>
    spins.every(({ stake, payout }) => {
      const found = balance >= stake
      balance += payout - stake
      return found
    })
  fc.assert(
    fc.property(moves, spins => {
      const required = requiredBalance(spins.map(spin => job(spin)))
      assert.ok(survives(required, spins))
      assert.ok(!survives(required - 1n, spins))
    }),
  )
})

test('a lone spin that was settled, refused, used before or of no account is told apart', async () => {
  const won = job({ payout: 25n })
  const settled = await settleOne(server('settled', 8n, 3n, 5n, 115n).send, won, 1)
  assert.deepEqual(settled, { kind: 'settled', roundIds: [8n], balanceBefore: 100n })
  const short = await settleOne(server('short', null, 3n, 4n, 9n).send, won, 1)
  assert.deepEqual(short, { kind: 'refused', seedPairId: 3n, nonce: 4, balance: 9n, replays: [] })
  const replay = await settleOne(server('replay', null, 3n, 6n, 9n).send, won, 1)
  assert.deepEqual(replay, { kind: 'refused', seedPairId: 3n, nonce: 6, balance: 9n, replays: [won] })
  const gone = await settleOne(server('no_account', null, null, null, null).send, won, 1)
  assert.deepEqual(gone, { kind: 'unknown_account' })
})

test('groups of a batch are told apart: settled, refused with used keys, held elsewhere, and of no account', async () => {
  const groups = [1000n, 1001n, 1002n, 1003n].map(accountId => [
    job({ accountId }),
    job({ accountId, nonce: 5 }),
  ])
  const { send, sent } = server(
    '{11,12,NULL,NULL,NULL,NULL,NULL,NULL}',
    '{500,NULL,NULL,NULL}',
    [
      ['2', '3', '9', '70'],
      ['3', null, null, null],
    ],
    [4],
  )
  const outcomes = await settleMany(send, groups, 1)
  assert.deepEqual(outcomes, [
    { kind: 'settled', roundIds: [11n, 12n], balanceBefore: 500n },
    { kind: 'refused', seedPairId: 3n, nonce: 9, balance: 70n, replays: [groups[1]?.[1]] },
    { kind: 'busy' },
    { kind: 'unknown_account' },
  ])
  assert.equal(sent.length, 1, 'one statement')
  assert.equal(sent[0]?.values.length, 14)
})

test('a settled spin’s record is what its job says, with the balance after it', () => {
  assert.deepEqual(spinRecord(job({ payout: 5n }), 8n, 95n), {
    roundId: 8n,
    nonce: 4,
    serverSeedHash: 'hash',
    clientSeed: 'seed',
    stops: 99,
    lines: 5,
    stakePerLine: 2,
    stake: 10n,
    payout: 5n,
    balanceAfter: 95n,
  })
})
