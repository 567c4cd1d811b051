import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { drawStops, hashServerSeed } from './draw.ts'
import { evaluate } from './evaluate.ts'
import { planGroups } from './plan.ts'
import type { Seat } from './seats.ts'
import { requiredBalance } from './settlement.ts'
import { drawAt, type SpinJob } from './spin-job.ts'

const serverSeed = `${'0'.repeat(63)}1`

function newSeat(o: Partial<Seat> = {}): Seat {
  return {
    accountId: 1000n,
    seedPairId: 1n,
    serverSeed,
    serverSeedHash: hashServerSeed(serverSeed),
    clientSeed: 'moonyetis',
    nextServerSeedHash: 'f'.repeat(64),
    nonce: 0,
    balance: 1_000_000n,
    pending: 0,
    ...o,
  }
}

function newJob(seat: Seat, o: { stakePerLine?: number; lines?: number } = {}): SpinJob {
  const { stakePerLine = 1, lines = 1 } = o
  const job: SpinJob = {
    seat,
    key: Buffer.alloc(16),
    stakePerLine,
    lines,
    stake: BigInt(stakePerLine * lines),
    submittedAtMs: 0,
    seedPairId: seat.seedPairId,
    serverSeedHash: seat.serverSeedHash,
    clientSeed: seat.clientSeed,
    nonce: 0,
    stops: 0,
    payout: 0n,
    attempts: 0,
    outcomeUnknown: false,
    answered: false,
    resolve: () => {},
    reject: () => {},
  }
  drawAt(job, seat.nonce + seat.pending++)
  return job
}

test('spins are grouped by account, in account order, each in the order in which it came', () => {
  const [late, early] = [newSeat({ accountId: 2000n }), newSeat({ accountId: 1000n })]
  const jobs = [newJob(late), newJob(early), newJob(late), newJob(early)]
  const { groups, held } = planGroups(jobs)
  assert.deepEqual(
    groups.map(group => group.map(job => jobs.indexOf(job))),
    [
      [1, 3],
      [0, 2],
    ],
  )
  assert.deepEqual(held, [])
})

test('a draw at another nonce or of another pair is made again before it goes', () => {
  const seat = newSeat()
  const jobs = [newJob(seat), newJob(seat)]
  seat.nonce = 7
  planGroups(jobs)
  assert.deepEqual(
    jobs.map(job => job.nonce),
    [7, 8],
  )
  Object.assign(seat, { seedPairId: 2n, clientSeed: 'mine', nonce: 0 })
  planGroups(jobs)
  for (const [nonce, job] of jobs.entries()) {
    assert.equal(job.seedPairId, 2n)
    assert.equal(job.stops, drawStops({ serverSeed, clientSeed: 'mine', nonce }))
    assert.equal(job.payout, BigInt(evaluate(job)))
  }
})

test('spins that the balance does not cover go first and together, to be refused by one answer', () => {
  const seat = newSeat({ balance: 3n })
  const jobs = [5, 4, 3, 9].map(stakePerLine => newJob(seat, { stakePerLine }))
  const { groups, held } = planGroups(jobs)
  assert.deepEqual(groups, [jobs.slice(0, 2)])
  assert.deepEqual(held, jobs.slice(2))
})

test('a spin behind covered ones waits when only their outcome could pay for it', () => {
  const seat = newSeat({ balance: 2n })
  const jobs = [1, 1, 1000].map(stakePerLine => newJob(seat, { stakePerLine }))
  const { groups, held } = planGroups(jobs)
  const paid = jobs.slice(0, 2).reduce((sum, job) => sum + job.payout, 0n)
  assert.deepEqual(groups, [paid >= 1000n ? jobs : jobs.slice(0, 2)])
  assert.equal(held.length, paid >= 1000n ? 0 : 1)
})

test('whatever the stakes and balances, a plan keeps every spin, in order, drawn where it will stand', () => {
  const crowd = fc.record({
    balances: fc.array(fc.bigInt({ min: 0n, max: 60n }), { minLength: 1, maxLength: 4 }),
    spins: fc.array(
      fc.record({
        seat: fc.nat(3),
        stakePerLine: fc.integer({ min: 1, max: 20 }),
        lines: fc.integer({ min: 1, max: 10 }),
      }),
      { minLength: 1, maxLength: 40 },
    ),
    nonce: fc.nat(1000),
  })
  fc.assert(
    fc.property(crowd, ({ balances, spins, nonce }) => {
      const seats = balances.map((balance, index) =>
        newSeat({ accountId: 1000n + BigInt(index), balance, nonce }),
      )
      const jobs = spins.map(({ seat, ...spin }) => newJob(seats[seat % seats.length] as Seat, spin))
      const { groups, held } = planGroups(jobs)
      assert.deepEqual(new Set([...groups.flat(), ...held]), new Set(jobs))
      assert.equal(groups.flat().length + held.length, jobs.length)
      for (const group of groups) checkGroup(group, jobs, held)
    }),
  )
})

function checkGroup(group: SpinJob[], jobs: SpinJob[], held: SpinJob[]): void {
  const { seat } = group[0] as SpinJob
  assert.ok(group.length > 0, 'no account waits without one of its spins going')
  const ofSeat = jobs.filter(job => job.seat === seat)
  assert.deepEqual([...group, ...held.filter(job => job.seat === seat)], ofSeat)
  group.forEach((job, index) => {
    assert.equal(job.nonce, seat.nonce + index)
    assert.equal(job.stops, drawStops({ ...seat, nonce: job.nonce }))
  })
  const covered = (group[0] as SpinJob).stake <= seat.balance
  if (covered) assert.ok(requiredBalance(group) <= seat.balance, 'a covered group settles whole')
  else assert.ok(group.every(job => job.stake > seat.balance))
}
