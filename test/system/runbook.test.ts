import assert from 'node:assert/strict'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { blocksOf, Rehearsal, roundsIn, withoutComments } from '#test/system/runbook.ts'

// The rest of it, a lost machine and life without the program, is in test/long/runbook.test.ts.

test('the commands of the restore runbook are the same in both languages', () => {
  const [english, spanish] = [blocksOf('restore.md'), blocksOf('restore.es.md')]
  assert.ok(english.length > 0)
  const names = (blocks: typeof english) => blocks.map(({ name }) => name)
  assert.deepEqual(names(spanish), names(english))
  assert.deepEqual(spanish.map(withoutComments), english.map(withoutComments))
})

test('the restore runbook, typed as it stands, brings a lost database back', async suite => {
  const rehearsal = await Rehearsal.of(suite, 'restore.md')
  const { program } = rehearsal

  await suite.test('a moment and the files come back beside the game that goes on', async t => {
    const text = await rehearsal.type(t, ['c', 'd'])
    assert.match(text, /^restored \S+-full-\S+ to \S+\.before in /m)
    assert.match(text, /^restored \S+ to \S+restored-files in \S+ s: \d+ files$/m)
    assert.match(text, /^seed_keys$/m)
  })

  await suite.test('the database comes back into its home, whole, and is archived on', async t => {
    // Under the running server, whom nobody has told.
    rmSync(join(program.home, 'postgres', 'node-a', 'base'), { recursive: true })
    const text = await rehearsal.type(t, ['look', 'a', 'proof'])
    assert.match(text, /^nothing was written$/m)
    assert.match(text, /recovery is finished: play goes on/)
    assert.match(text, /^the books are whole/m)
    assert.match(text, /^the drill is passed$/m)
    assert.doesNotMatch(text, /FAIL/)
    assert.equal(roundsIn(text), 3)
    assert.deepEqual(readdirSync(join(program.home, 'postgres.damaged')), ['node-a'])
  })
})
