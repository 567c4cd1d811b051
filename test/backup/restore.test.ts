import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { debianBin, noDebian } from '#test/backup/archiving.ts'
import { type Commit, idsIn, original, restoreTarget } from '#test/backup/restoring.ts'

const versions = [
  { name: 'embedded PostgreSQL 18', bin: undefined, skip: false as false | string },
  { name: "Debian's PostgreSQL 15", bin: debianBin, skip: noDebian },
]

for (const { name, bin, skip } of versions) {
  test(`restores on ${name}`, { skip }, async suite => {
    const from = await original(suite, bin)
    await from.commit(1)
    await from.backup()
    const commits: Commit[] = []
    for (const id of [2, 3, 4]) commits.push(await from.commit(id))
    await from.archived()

    await suite.test(
      'to latest has every row that the archive has confirmed, those of the open segment too',
      async t => {
        const home = restoreTarget(t)
        const result = await from.restore(home)
        console.log(result)
        assert.deepEqual(await idsIn(t, home, bin), [1, 2, 3, 4])
        assert.ok(!existsSync(join(home, 'RESTORE_INCOMPLETE')))
      },
    )
  })
}
