import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { silentLog } from '#lib/log.ts'
import { type OpenOptions, openStorage } from '#storage/open.ts'
import { keysOf } from '#test/storage/contract.ts'
import { startRacers } from '#test/storage/race.ts'
import { startS3 } from '#test/storage/s3-server.ts'

const rounds = 200
const directory = mkdtempSync(join(tmpdir(), 'my-race-'))
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
const s3 = startS3({ after })

const stores: Array<[name: string, options: () => Promise<Omit<OpenOptions, 'log'>>]> = [
  ['a directory', async () => ({ url: pathToFileURL(directory).href })],
  ['an S3 bucket', async () => ({ url: (await s3).url, s3: (await s3).options })],
]

for (const [name, given] of stores) {
  describe(`two processes on ${name}`, () => {
    test(`that write one new object at the same time: one wins, ${rounds} times`, async t => {
      const options = await given()
      const racers = await startRacers(t, options)
      const storage = await openStorage({ ...options, log: silentLog })
      const wins = racers.map(() => 0)
      for (let round = 0; round < rounds; round++) {
        const key = `race/${round}`
        const won = await Promise.all(racers.map(racer => racer.run({ task: 'putNew', key })))
        assert.equal(won.filter(Boolean).length, 1, `round ${round}`)
        const winner = won.indexOf(true)
        wins[winner] = (wins[winner] as number) + 1
        const written = (await storage.get(key)).toString('latin1')
        assert(written.startsWith(String(racers[winner]?.pid)), `round ${round}: the loser's bytes are there`)
      }
      t.diagnostic(`won ${wins.join(' to ')}`)
      assert.equal((await keysOf(storage, 'race/')).length, rounds)
    })

    test(`that take one lease at the same time: one holds it, by growing epochs, ${rounds} times`, async t => {
      const options = await given()
      const racers = await startRacers(t, options)
      for (let round = 1; round <= rounds; round++) {
        const epochs = await Promise.all(
          racers.map(racer => racer.run({ task: 'acquire', prefix: 'locks/race/' })),
        )
        assert.deepEqual(epochs.toSorted(), [0, round].toSorted(), `round ${round}`)
        await Promise.all(racers.map(racer => racer.run({ task: 'release' })))
      }
      const storage = await openStorage({ ...options, log: silentLog })
      assert.equal((await keysOf(storage, 'locks/race/')).length, 3)
    })
  })
}
