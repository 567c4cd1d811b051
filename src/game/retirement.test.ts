import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Retirement, type RetirementOptions } from './retirement.ts'

const seat = (account: bigint) => ({
  account_id: account,
  active_pair: account,
  active_hash: '',
  active_sealed: Buffer.alloc(1),
  next_pair: account,
  next_hash: '',
  next_sealed: Buffer.alloc(1),
})

/** A database with accounts on old seeds, of which each round retires those that `isFree` says. */
function retirementOf(left: Set<bigint>, isFree: (account: bigint) => boolean) {
  const database = {
    query: async (_text: string, [after]: [bigint]) => [...left].filter(id => id > after).map(seat),
    one: async (_text: string, [accounts]: [bigint[]]) => {
      const free = accounts.filter(isFree)
      for (const account of free) left.delete(account)
      return { accounts: free.length }
    },
  }
  const keys = { open: () => 'seed', seal: () => Buffer.alloc(1) }
  return new Retirement({ database, keys, pauseMs: 1 } as unknown as RetirementOptions)
}

test('an account that is passed over for a moment is retired in a later round', async () => {
  const left = new Set([1n, 2n, 3n])
  let asked = 0
  const retired = await retirementOf(left, account => account !== 2n || ++asked > 3).retireAll()
  assert.deepEqual([retired.accounts, left.size, asked], [3, 0, 4])
})

test('accounts that are passed over again and again end it with their number', async () => {
  const left = new Set([1n, 2n, 3n])
  const retirement = retirementOf(left, account => account === 1n)
  await assert.rejects(retirement.retireAll(), { code: 'GAME_SEATS_LEFT', facts: { seats: 2 } })
})

test('told to stop between two rounds, it stops at once and without an error', async () => {
  const stop = new AbortController()
  const retirement = retirementOf(new Set([1n]), () => false)
  const onProgress = () => stop.abort()
  assert.equal((await retirement.retireAll({ signal: stop.signal, onProgress })).accounts, 0)
})
