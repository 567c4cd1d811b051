import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { manualClock } from '#lib/clock.ts'
import { Output } from './output.ts'

test('trouble goes to error.log too, and a console that stands still stalls nobody', t => {
  const logs = mkdtempSync(join(tmpdir(), 'my-'))
  t.after(() => rmSync(logs, { recursive: true }))
  // Takes its first write and never says that it is done.
  const stalled = new Writable({ write: () => {} })
  const output = new Output({ logs, console: stalled, clock: manualClock() })
  const long = 'x'.repeat(10_000)
  for (let number = 0; number < 300; number++) output.line('serve', `${number} ${long}`)
  output.line('serve', 'it broke', 'error')
  output.close()
  assert.ok(stalled.writableLength < 2 * 1024 * 1024)
  const all = readFileSync(join(logs, 'server.log'), 'utf8').trim().split('\n')
  assert.equal(all.length, 301)
  assert.match(
    readFileSync(join(logs, 'error.log'), 'utf8'),
    /^\{"level":"error",[^\n]*"msg":"it broke"\}\n$/,
  )
})
