import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { postgresServerError } from './errors.ts'
import { NodeKeeper } from './keeper.ts'
import type { ExitFacts, PostgresNode, RunningNode } from './node.ts'

/** A node that does what the test says; only what the keeper uses is there. */
class ScriptedNode {
  readonly name = 'node-a'
  readonly version = '18'
  running: RunningNode | undefined
  starts = 0
  stops: string[] = []
  failStarts: Error[] = []
  #onExit: (facts: ExitFacts) => void = () => {}

  async initialise() {
    return false
  }

  async start() {
    this.starts++
    const failure = this.failStarts.shift()
    if (failure) throw failure
    this.running = { pid: 1, startTime: 'x', port: 1, socketDirectory: '/run', adopted: this.starts > 1 }
    return this.running
  }

  watch(onExit: (facts: ExitFacts) => void) {
    this.#onExit = onExit
    return () => {}
  }

  async stop({ mode }: { mode: string }) {
    this.stops.push(mode)
    this.end()
    return 'stopped'
  }

  end() {
    this.running = undefined
    this.#onExit({ postmaster: 1, code: 2, signal: null })
  }
}

function keep(node: ScriptedNode, prepare: () => Promise<void>) {
  const options = {
    node: node as unknown as PostgresNode,
    log: silentLog,
    clock: systemClock,
    startWithinMs: 1000,
  }
  return new NodeKeeper({ ...options, prepare })
}

test('a server that dies is started and prepared again, and ready in between only while it runs', async () => {
  const node = new ScriptedNode()
  let prepared = 0
  const second = Promise.withResolvers<void>()
  const first = Promise.withResolvers<void>()
  const keeper = keep(node, async () => {
    prepared++
    setImmediate(() => (prepared === 1 ? first : second).resolve())
  })
  const run = keeper.run()
  assert.deepEqual([keeper.state, keeper.ready], ['Booting', false])
  await first.promise
  assert.deepEqual([keeper.state, keeper.ready], ['Solo', true])
  node.end()
  assert.equal(keeper.ready, false)
  await second.promise
  assert.deepEqual([node.starts, keeper.state, keeper.ready], [2, 'Solo', true])
  await keeper.stop({ mode: 'fast', withinMs: 1000 })
  await run
  assert.deepEqual([keeper.state, node.stops], ['Halted', ['fast']])
})

test('a failure that passes is tried again', async () => {
  const node = new ScriptedNode()
  node.failStarts = [postgresServerError('POSTGRES_START_FAILED', { reason: 'no luck' })]
  const { promise, resolve } = Promise.withResolvers<void>()
  const keeper = keep(node, async () => resolve())
  const run = keeper.run()
  await promise
  assert.equal(node.starts, 2)
  await keeper.stop({ mode: 'immediate', withinMs: 1000 })
  await run
})

test('a failure that a restart cannot mend ends the keeper with PostgreSQL stopped', async () => {
  const node = new ScriptedNode()
  const failure = postgresServerError('POSTGRES_INIT_FAILED', { reason: 'read-only' })
  const keeper = keep(node, async () => {
    throw failure
  })
  await assert.rejects(keeper.run(), error => error === failure)
  assert.deepEqual([keeper.state, node.stops, node.starts], ['Halted', ['fast'], 1])
})

test('what was refused for safety is not stopped: it may be somebody else’s', async () => {
  const node = new ScriptedNode()
  node.failStarts = [postgresServerError('POSTGRES_DIRECTORY_IN_USE', { pid: 7 })]
  const keeper = keep(node, async () => {})
  await assert.rejects(keeper.run(), { code: 'POSTGRES_DIRECTORY_IN_USE' })
  assert.deepEqual(node.stops, [])
})
