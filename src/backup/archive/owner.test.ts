import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { claimSpool } from './owner.ts'

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'owner-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const claim = `
  const { claimSpool } = await import(process.argv[1])
  process.stdout.write('.')
  process.stdin.once('data', () => {
    try {
      claimSpool(process.argv[2], { holder: 'one of them', now: new Date() })
      process.stdout.write('got it')
    } catch (error) {
      process.stdout.write(error.code)
    }
  })`

test('of processes that claim a spool at once, one gets it', async t => {
  const directory = place(t)
  const children = [1, 2, 3].map(() =>
    spawn(
      process.execPath,
      ['--input-type=module', '-e', claim, join(import.meta.dirname, 'owner.ts'), directory],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    ),
  )
  t.after(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  await Promise.all(children.map(child => once(child.stdout, 'data')))
  for (const child of children) child.stdin.write('now')
  const answers = await Promise.all(
    children.map(async child => String((await once(child.stdout, 'data'))[0])),
  )
  assert.deepEqual(answers.sort(), ['ARCHIVE_ELSEWHERE', 'ARCHIVE_ELSEWHERE', 'got it'])
})

test('an owner that is gone is followed by name, whoever has its pid now', t => {
  const directory = place(t)
  const gone = { pid: process.ppid, startTime: 'another time', holder: 'the dead one', since: '' }
  writeFileSync(join(directory, 'owner'), JSON.stringify(gone))
  assert.equal(claimSpool(directory, { holder: 'me', now: new Date() }), 'the dead one')
  assert.equal(JSON.parse(readFileSync(join(directory, 'owner'), 'utf8')).holder, 'me')
})
