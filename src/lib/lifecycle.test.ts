import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { Failure } from './errors.ts'
import { Lifecycle, onShutdown } from './lifecycle.ts'
import { createLog, silentLog } from './log.ts'

const never = () => new Promise<never>(() => {})

// A promise that nobody settles keeps no process alive, so a test that waits for a deadline needs its timer.
function lifecycle(): { life: Lifecycle; closed: string[]; open: (name: string) => Promise<string> } {
  const life = new Lifecycle({ log: silentLog })
  const closed: string[] = []
  const open = (name: string) =>
    life.open(
      name,
      () => name,
      value => void closed.push(value),
    )
  return { life, closed, open }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Failure, String(error))
  return error.code
}

test('what was opened is closed in reverse order, once', async () => {
  const { life, closed, open } = lifecycle()
  for (const name of ['log', 'pool', 'http']) assert.equal(await open(name), name)
  await Promise.all([life.close(), life.close()])
  await life.close()
  assert.deepEqual(closed, ['http', 'pool', 'log'])
})

test('a start that fails closes what was opened before it and its own error rises', async () => {
  const { life, closed, open } = lifecycle()
  await open('log')
  const failed = life.open('pool', () => Promise.reject(new Error('no database')))
  await assert.rejects(failed, /no database/)
  assert.deepEqual(closed, ['log'])
  assert.equal(await codeOf(open('http')), 'CLOSING')
})

test('every step runs even when one fails, and close names the failed ones', async () => {
  const { life, closed, open } = lifecycle()
  await open('log')
  await life.open(
    'pool',
    () => 1,
    () => Promise.reject(new Error('stuck')),
  )
  await life.open(
    'cache',
    () => 1,
    () => {
      throw new Error('stuck')
    },
  )
  await open('http')
  await assert.rejects(life.close(), /cache \(failed\), pool \(failed\)/)
  assert.deepEqual(closed, ['http', 'log'])
})

test('a step that hangs is given up at its deadline and the rest is closed', async () => {
  const { life, closed, open } = lifecycle()
  await open('log')
  await life.open('pool', () => 1, never, 20)
  await assert.rejects(life.close(), /pool \(not closed within its deadline\)/)
  assert.deepEqual(closed, ['log'])
})

test('a late failure of a step that was given up does not end the process', async () => {
  const life = new Lifecycle({ log: silentLog })
  const step = Promise.withResolvers<void>()
  await life.open(
    'pool',
    () => 1,
    () => step.promise,
    5,
  )
  assert.equal(await codeOf(life.close()), 'CLOSE_INCOMPLETE')
  step.reject(new Error('too late to matter'))
  await new Promise(setImmediate)
})

test('hurry shortens the running step and those after it', async () => {
  const life = new Lifecycle({ log: silentLog })
  const begun = Promise.withResolvers<void>()
  await life.open('first', () => 1, never, 60_000)
  await life.open(
    'second',
    () => 1,
    () => {
      begun.resolve()
      return never()
    },
    60_000,
  )
  const closing = codeOf(life.close())
  await begun.promise
  const startedMs = performance.now()
  life.hurry()
  assert.equal(await closing, 'CLOSE_INCOMPLETE')
  assert.ok(performance.now() - startedMs < 10_000)
})

test('what was being opened when close began is closed as well and its opener learns why', async () => {
  const { life, closed } = lifecycle()
  const starting = Promise.withResolvers<string>()
  const opening = codeOf(
    life.open(
      'pool',
      () => starting.promise,
      value => void closed.push(value),
    ),
  )
  const closing = life.close()
  starting.resolve('pool')
  assert.equal(await opening, 'CLOSING')
  await closing
  assert.deepEqual(closed, ['pool'])
})

test('steps and how long they took are logged', async () => {
  const lines: string[] = []
  const log = createLog({ role: 'x', level: 'debug', destination: { write: line => lines.push(line) } })
  const life = new Lifecycle({ log })
  await life.open(
    'pool',
    () => 1,
    () => {},
  )
  await life.close()
  assert.match(lines.join(''), /"step":"pool","tookMs":\d+,"msg":"closed"/)
})

test('signals are counted, and nothing listens after the undo', async (t: TestContext) => {
  const seen: [string, number][] = []
  const signals: NodeJS.Signals[] = ['SIGHUP', 'SIGWINCH']
  const listeners = () => signals.map(signal => process.listenerCount(signal))
  const before = listeners()
  const undo = onShutdown(signals, (signal, count) => seen.push([signal, count]))
  t.after(undo)
  for (const signal of signals) {
    const arrived = once(process, signal)
    process.kill(process.pid, signal)
    await arrived
  }
  assert.deepEqual(seen, [
    ['SIGHUP', 1],
    ['SIGWINCH', 2],
  ])
  undo()
  assert.deepEqual(listeners(), before)
})
