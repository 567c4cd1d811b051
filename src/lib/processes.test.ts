import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openHome } from './home.ts'
import { isAlive, processStartTime, readRecord, removeRecord, terminate, writeRecord } from './processes.ts'

function temporaryHome(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'processes-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return openHome(directory)
}

/** A child that is ready (its handlers are set) when this resolves. */
async function startChild(t: TestContext, script = ''): Promise<ChildProcess & { pid: number }> {
  const text = `${script}; process.stdout.write('up'); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['-e', text], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child as ChildProcess & { pid: number }
}

test('the start time of a process stays the same and differs from that of a later one', async t => {
  const own = processStartTime(process.pid)
  assert.equal(typeof own, 'string')
  assert.equal(processStartTime(process.pid), own)
  const child = await startChild(t)
  assert.notEqual(processStartTime(child.pid), own)
})

test('there is no start time for a pid that nobody has', () => {
  assert.equal(processStartTime(2 ** 22 + 1), undefined)
})

test('a record is written, read, and removed', t => {
  const home = temporaryHome(t)
  assert.equal(readRecord(home, 'serve'), undefined)
  const record = writeRecord(home, 'serve', process.pid)
  assert.deepEqual(readRecord(home, 'serve'), record)
  assert.equal(isAlive(record), true)
  removeRecord(home, 'serve')
  removeRecord(home, 'serve')
  assert.equal(readRecord(home, 'serve'), undefined)
})

test('a record that a crash left unreadable counts as none', t => {
  const home = temporaryHome(t)
  for (const text of [
    '',
    '{"pid":',
    '{}',
    '{"pid":0,"startTime":"x"}',
    '{"pid":1.5,"startTime":"x"}',
    '[]',
  ]) {
    writeFileSync(join(home.run, 'serve.pid.json'), text)
    assert.equal(readRecord(home, 'serve'), undefined, text)
  }
})

test('a stranger with the same pid is neither alive nor signalled', async t => {
  const child = await startChild(t)
  const stale = { pid: child.pid, startTime: 'another life', name: 'serve' }
  assert.equal(isAlive(stale), false)
  assert.equal(await terminate(stale, { graceMs: 0 }), 'gone')
  assert.equal(child.exitCode ?? child.signalCode, null)
})

test('a process that obeys is terminated, one that does not is killed after the grace', async t => {
  const home = temporaryHome(t)
  const obedient = await startChild(t)
  assert.equal(await terminate(writeRecord(home, 'a', obedient.pid), { graceMs: 10_000 }), 'terminated')
  const stubborn = await startChild(t, "process.on('SIGTERM', () => {})")
  const record = writeRecord(home, 'b', stubborn.pid)
  assert.equal(await terminate(record, { graceMs: 50 }), 'killed')
  assert.equal(isAlive(record), false)
  assert.equal(await terminate(record, { graceMs: 0 }), 'gone')
})

test('another first signal can be chosen', async t => {
  const child = await startChild(t, "process.on('SIGINT', () => process.exit(5))")
  const exited = once(child, 'exit')
  const record = writeRecord(temporaryHome(t), 'a', child.pid)
  assert.equal(await terminate(record, { graceMs: 10_000, signal: 'SIGINT' }), 'terminated')
  assert.deepEqual(await exited, [5, null])
})

test('a dead process that its parent has not reaped is not alive', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, async t => {
  // The shell starts a child that ends at once, then becomes a program that never waits for it.
  const parent = spawn('sh', ['-c', 'sh -c "exit 0" & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => parent.kill('SIGKILL'))
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  while (processStartTime(pid) !== undefined) await new Promise(setImmediate)
  assert.equal(processStartTime(pid), undefined)
})

test('a name with brackets and spaces does not confuse the reading', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, async t => {
  const child = await startChild(t, "process.title = 'a) R (b) 1 2'")
  const before = processStartTime(child.pid)
  assert.match(before ?? '', /^[0-9a-f]{8}:\d+$/)
})
