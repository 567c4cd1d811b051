import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { createLog, silentLog } from './log.ts'

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'log-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

test('a line is JSON with level, time, role, message and facts', () => {
  const lines: string[] = []
  const log = createLog({ role: 'serve', level: 'info', destination: { write: line => lines.push(line) } })
  log.info({ bytes: 3 }, 'backup finished')
  log.debug('not at this level')
  assert.equal(lines.length, 1)
  const { time, ...line } = JSON.parse(lines[0] as string)
  assert.deepEqual(line, { level: 'info', role: 'serve', pid: process.pid, bytes: 3, msg: 'backup finished' })
  assert.match(time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
})

test('secrets are masked at the top and inside objects', () => {
  const lines: string[] = []
  const log = createLog({ role: 'serve', level: 'info', destination: { write: line => lines.push(line) } })
  log.info({
    token: 'S1',
    body: { password: 'S2' },
    request: { headers: { cookie: 'S3', authorization: 'S4' } },
  })
  log.info({ pair: { serverSeed: 'S5' } })
  assert.doesNotMatch(lines.join(''), /S\d/)
  assert.match(lines.join(''), /\[redacted\]/)
})

test('the silent log writes nothing', () => {
  assert.equal(silentLog.isLevelEnabled('fatal'), false)
})

const logModule = JSON.stringify(new URL('./log.ts', import.meta.url).href)

test('the last words before exit are not lost on a pipe', async () => {
  const script = `const { createLog } = await import(${logModule})
    const log = createLog({ role: 'x', level: 'info' })
    for (let i = 0; i < 100; i++) log.info({ i }, 'x'.repeat(1000))
    process.exit(0)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
  assert.equal(stdout.trim().split('\n').length, 100)
})

test('a role outlives the reader of its output and goes on in the fallback file', async t => {
  const fallbackFile = join(temporaryDirectory(t), 'role.log')
  const script = `const { createLog } = await import(${logModule})
    const log = createLog({ role: 'x', level: 'info', fallbackFile: ${JSON.stringify(fallbackFile)} })
    log.info('before')
    process.stdin.once('end', () => { log.info('after 1'); log.info('after 2'); process.exit(7) }).resume()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  child.stdout.destroy()
  await once(child.stdout, 'close')
  child.stdin.end()
  const [exit] = await once(child, 'exit')
  assert.equal(exit, 7)
  const messages = readFileSync(fallbackFile, 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line).msg)
  assert.deepEqual(messages, ['after 1', 'after 2'])
})
