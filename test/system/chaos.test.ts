import { test } from 'node:test'
import { runChaos, type Strike, strikes } from '#test/system/chaos.ts'
import { startMoonYetis } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'

const named = (name: string) => strikes.find(strike => strike.name === name) as Strike

test('no kill at a random moment loses or doubles a spin', async t => {
  const random = Random.fromEnvironment()
  t.diagnostic(`MOONYETIS_SEED=${random.seed}`)
  const program = await startMoonYetis(t)
  await runChaos({
    program,
    random,
    players: 64,
    strikes: [named('serve'), named('postgres'), named('everything'), named('one backend')],
    say: line => t.diagnostic(line),
  })
})
