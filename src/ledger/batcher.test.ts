import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Batcher, type Settled } from './batcher.ts'

/** A batcher whose runs end when the test says so. */
function openBatcher(o: { maxBatch?: number; maxQueue?: number } = {}) {
  const runs: Array<{ jobs: number[]; end: (settled?: Partial<Settled<number>>) => void }> = []
  const answered: number[] = []
  const batcher = new Batcher<number>({
    maxBatch: o.maxBatch ?? 10,
    maxQueue: o.maxQueue ?? 100,
    run: jobs => {
      const { promise, resolve } = Promise.withResolvers<Settled<number>>()
      const answer = (again: number[]) => () => {
        answered.push(...jobs.filter(job => !again.includes(job)))
      }
      runs.push({
        jobs,
        end: settled => resolve({ again: [], answer: answer(settled?.again ?? []), ...settled }),
      })
      return promise
    },
  })
  return { batcher, runs, answered }
}

const turn = () => new Promise(resolve => setImmediate(resolve))

/** Lets everything that is ready happen. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await turn()
}

test('a lone job goes at once; what comes while it is in flight goes together', async () => {
  const { batcher, runs } = openBatcher()
  batcher.submit(1)
  await settle()
  for (const job of [2, 3, 4]) batcher.submit(job)
  await settle()
  assert.deepEqual(
    runs.map(run => run.jobs),
    [[1]],
  )
  runs[0]?.end()
  await settle()
  assert.deepEqual(runs[1]?.jobs, [2, 3, 4])
})

test('jobs that go again stand before those that wait, in their order', async () => {
  const { batcher, runs, answered } = openBatcher({ maxBatch: 3 })
  for (const job of [1, 2, 3, 4, 5]) batcher.submit(job)
  await settle()
  runs[0]?.end({ again: [2, 3] })
  await settle()
  assert.deepEqual(runs[1]?.jobs, [2, 3, 4])
  assert.deepEqual(answered, [1])
})

test('answers are told when the next run is on its way, and at once when nothing waits', async () => {
  const { batcher, runs, answered } = openBatcher({ maxBatch: 1 })
  for (const job of [1, 2]) batcher.submit(job)
  await settle()
  const before = runs.length
  runs[0]?.end({
    answer: () => {
      assert.equal(runs.length, before + 1)
      answered.push(1)
    },
  })
  await settle()
  runs[1]?.end()
  await settle()
  assert.deepEqual(answered, [1, 2])
})

test('the queue refuses exactly at its bound, and takes again what a run makes room for', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 8 }),
      async (maxQueue, maxBatch) => {
        const { batcher, runs } = openBatcher({ maxQueue, maxBatch })
        batcher.submit(0)
        await settle()
        for (let job = 1; job <= maxQueue; job++) batcher.submit(job)
        assert.equal(batcher.queued, maxQueue)
        assert.throws(() => batcher.submit(-1), { code: 'LEDGER_BUSY' })
        runs[0]?.end()
        await settle()
        const room = Math.min(maxQueue, maxBatch)
        for (let job = 0; job < room; job++) batcher.submit(100 + job)
        assert.throws(() => batcher.submit(-1), { code: 'LEDGER_BUSY' })
      },
    ),
    { numRuns: 30 },
  )
})

test('every job is run and answered exactly once, whatever goes again, and close waits for the last', async () => {
  const sizes = fc.record({
    maxBatch: fc.integer({ min: 1, max: 70 }),
    crowds: fc.array(fc.integer({ min: 1, max: 120 }), { minLength: 1, maxLength: 4 }),
    again: fc.array(fc.boolean(), { minLength: 1, maxLength: 30 }),
  })
  await fc.assert(
    fc.asyncProperty(sizes, async ({ maxBatch, crowds, again }) => {
      const answers: number[] = []
      let asked = 0
      const batcher = new Batcher<number>({
        maxBatch,
        maxQueue: 1000,
        run: async jobs => {
          assert.ok(jobs.length > 0 && jobs.length <= maxBatch)
          await turn()
          // Some go again, but not for ever.
          const back = jobs.filter(() => asked < 300 && again[asked++ % again.length])
          const done = jobs.filter(job => !back.includes(job))
          return { again: back, answer: () => void answers.push(...done) }
        },
      })
      let submitted = 0
      for (const crowd of crowds) {
        for (let job = 0; job < crowd; job++) batcher.submit(submitted++)
        await turn()
      }
      await batcher.close()
      await turn()
      assert.deepEqual(
        answers.sort((a, b) => a - b),
        Array.from({ length: submitted }, (_, job) => job),
      )
      assert.throws(() => batcher.submit(1), { code: 'LEDGER_CLOSING' })
    }),
    { numRuns: 40 },
  )
})

test('an idle batcher closes at once', async () => {
  const { batcher } = openBatcher()
  await batcher.close()
  assert.throws(() => batcher.submit(1), { code: 'LEDGER_CLOSING' })
})

test('a crowd that arrives together is set out of step: half goes first', async () => {
  const { batcher, runs } = openBatcher({ maxBatch: 512, maxQueue: 1000 })
  for (let job = 0; job < 100; job++) batcher.submit(job)
  await settle()
  assert.equal(runs[0]?.jobs.length, 50)
  runs[0]?.end()
  await settle()
  assert.equal(runs[1]?.jobs.length, 50)
})
