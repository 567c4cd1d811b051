import { test } from 'node:test'
import { runChaos, strikes } from '#test/system/chaos.ts'
import { startMoonYetis } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'

// MOONYETIS_ROUNDS and MOONYETIS_SEED choose how many rounds and which; the seed is printed.
const rounds = Number(process.env.MOONYETIS_ROUNDS) || 36

test(`${rounds} kills at random moments lose and double no spin`, async t => {
  const random = Random.fromEnvironment()
  process.stdout.write(`MOONYETIS_SEED=${random.seed}\n`)
  const program = await startMoonYetis(t)
  await runChaos({
    program,
    random,
    players: 64,
    // Each kind of kill as often as the others, in an order of the seed's own.
    strikes: Array.from({ length: rounds }, (_, index) => strikes[index % strikes.length])
      .map(strike => ({ strike: strike as (typeof strikes)[number], order: random.next() }))
      .toSorted((a, b) => a.order - b.order)
      .map(({ strike }) => strike),
    say: line => process.stdout.write(`${line}\n`),
  })
})
