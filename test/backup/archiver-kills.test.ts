import { test } from 'node:test'
import { surviveKills } from '#test/backup/kills.ts'
import { Random } from '#test/system/random.ts'

test('an archive that is killed at any moment has each commit that was acknowledged', async t => {
  const random = Random.fromEnvironment()
  t.diagnostic(`MOONYETIS_SEED=${random.seed}`)
  await surviveKills(t, { kills: 6, random })
})
