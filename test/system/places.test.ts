import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { Launch } from '#test/system/launch.ts'
import { processesOf } from '#test/system/places.ts'
import { programRoot, until } from '#test/system/program.ts'

// What a test process does, up to the moment at which somebody kills it.
const script = `
const { startMoonYetis } = await import('#test/system/program.ts')
const program = await startMoonYetis({ after() {} })
console.log('at ' + program.place.root)
setInterval(() => {}, 1000)
`

test('a test process that is killed leaves no process and no directory', async () => {
  const tests = new Launch({
    command: [process.execPath, '--input-type=module', '--eval', script],
    cwd: programRoot,
  })
  const root = (await tests.line(/^at /)).slice('at '.length)
  assert.ok(processesOf(root).length > 3)
  tests.signal('SIGKILL')
  await tests.exit()
  await until('the place is gone', () => !existsSync(root), 20_000)
  assert.deepEqual(processesOf(root), [])
})
