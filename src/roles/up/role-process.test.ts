import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { readRecord } from '#lib/processes.ts'
import { RoleProcess } from './role-process.ts'

/** A role that runs a line of JavaScript; `lines` emits 'line' with each line that it prints. */
function newRole(t: TestContext, script: string) {
  const home = openHome(mkdtempSync(join(tmpdir(), 'my-')))
  const lines = new EventEmitter()
  const role = new RoleProcess({
    name: 'serve',
    command: [process.execPath, '-e', script],
    env: { PATH: process.env.PATH },
    home,
    onLine: (line, level) => lines.emit('line', line, level),
    log: silentLog,
    clock: systemClock,
  })
  t.after(async () => {
    await role.stop(0)
    rmSync(home.root, { recursive: true, force: true })
  })
  return { role, home, lines }
}

const waits = 'setInterval(() => {}, 1000);'

test('a role that is killed comes back under its own name', async t => {
  const { role, home, lines } = newRole(t, `${waits} console.log('up', process.pid)`)
  role.start()
  const [first] = await once(lines, 'line')
  assert.equal(readRecord(home, 'serve')?.pid, role.pid)
  const back = once(lines, 'line')
  process.kill(role.pid as number, 'SIGKILL')
  const [second] = await back
  assert.notEqual(second, first)
  assert.equal(role.restarts, 1)
  assert.equal(role.exits[0]?.signal, 'SIGKILL')
  assert.equal(readRecord(home, 'serve')?.pid, role.pid)
})

test('a role whose record cannot be written is stopped all the same', async t => {
  const { role, home, lines } = newRole(t, `${waits} console.log('up', process.pid)`)
  // As a full disk: the record's place cannot be taken.
  mkdirSync(join(home.run, 'serve.pid.json', 'in the way'), { recursive: true })
  role.start()
  await once(lines, 'line')
  const { pid } = role
  rmSync(join(home.run, 'serve.pid.json'), { recursive: true })
  await role.stop(10_000)
  assert.throws(() => process.kill(pid as number, 0), { code: 'ESRCH' })
})

test('a role that drains is waited for, and does not come back', async t => {
  const { role, lines } = newRole(
    t,
    `${waits} process.once('SIGTERM', () => setTimeout(() => { console.log('drained'); process.exit(0) }, 50)); console.log('up')`,
  )
  role.start()
  await once(lines, 'line')
  const drained = once(lines, 'line')
  await role.stop(10_000)
  assert.equal((await drained)[0], 'drained')
  assert.deepEqual([role.exits.length, role.exits[0]?.code, role.pid], [1, 0, undefined])
})

test('a role that ignores the signal is killed', async t => {
  const { role, lines } = newRole(t, `${waits} process.on('SIGTERM', () => {}); console.log('up')`)
  role.start()
  await once(lines, 'line')
  await role.stop(100)
  assert.equal(role.exits[0]?.signal, 'SIGKILL')
})

test('a signal to the terminal’s group does not reach the role', async t => {
  const { role, lines } = newRole(t, `${waits} console.log('up')`)
  role.start()
  await once(lines, 'line')
  const group = execFileSync('ps', ['-o', 'pgid=', '-p', String(role.pid)], { encoding: 'utf8' })
  assert.equal(Number(group), role.pid)
})

test('the last error line is kept for the one who waits, and stderr counts as a warning', async t => {
  const { role, lines } = newRole(
    t,
    `console.error('error: no disk'); console.error('hint: buy one'); process.exit(2)`,
  )
  const levels: string[] = []
  lines.on('line', (_line, level) => levels.push(level))
  role.start()
  await once(lines, 'line')
  await once(lines, 'line')
  // Stopping waits for the end of the run that is under way.
  await role.stop(5_000)
  assert.equal(role.exits[0]?.lastError, 'no disk')
  assert.deepEqual(levels.slice(0, 2), ['warn', 'warn'])
})

test('a program that cannot be started is an end like any other', async t => {
  const home = openHome(mkdtempSync(join(tmpdir(), 'my-')))
  t.after(() => rmSync(home.root, { recursive: true, force: true }))
  const role = new RoleProcess({
    name: 'serve',
    command: ['/nonexistent/node'],
    env: {},
    home,
    onLine: () => {},
    log: silentLog,
    clock: systemClock,
  })
  role.start()
  await role.stop(1_000)
  assert.equal(role.pid, undefined)
})
