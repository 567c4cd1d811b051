import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock, systemClock } from '#lib/clock.ts'
import type { Failure } from '#lib/errors.ts'
import type { RoleExit } from './role-process.ts'
import { gaveUp, waitUntilReady } from './wait.ts'

const crash: RoleExit = { code: 1, signal: null, ranMs: 10, lastError: undefined }

test('a role may crash twice while it starts, not three times', () => {
  assert.equal(gaveUp([]), undefined)
  assert.equal(gaveUp([crash, crash]), undefined)
  assert.equal(gaveUp([crash, crash, crash]), 'it ended with exit 1')
})

test('wrong configuration and refusals are final at once, in the role’s own words', () => {
  assert.equal(
    gaveUp([{ ...crash, code: 2, lastError: 'The configuration is not valid.' }]),
    'The configuration is not valid',
  )
  assert.equal(gaveUp([{ ...crash, code: 3 }]), 'it ended with exit 3')
})

test('what the role says is final ends the start with the role’s own exit number', async () => {
  const wait = (code: number) =>
    waitUntilReady(
      { name: 'serve', exits: [{ ...crash, code, lastError: 'No.' }] },
      {
        withinMs: 1000,
        signal: new AbortController().signal,
        clock: manualClock(),
        log: 'server.log',
        look: async () => undefined,
      },
    )
  await assert.rejects(
    wait(2),
    (error: Failure) => error.code === 'ROLE_MISCONFIGURED' && error.row.exit === 2,
  )
  await assert.rejects(wait(3), (error: Failure) => error.code === 'ROLE_REFUSED' && error.row.exit === 3)
})

test('a kill is told by its signal', () => {
  const killed: RoleExit = { ...crash, code: null, signal: 'SIGKILL' }
  assert.equal(gaveUp([killed, killed, killed]), 'it ended with SIGKILL')
})

test('a role that never gets ready fails with the last reason', async () => {
  const clock = manualClock()
  const look = async () => {
    clock.advance(600)
    return 'still recovering'
  }
  const options = { withinMs: 1000, signal: new AbortController().signal, clock, log: 'server.log', look }
  await assert.rejects(
    waitUntilReady({ name: 'supervise', exits: [] }, options),
    /supervise did not start: still recovering/,
  )
})

test('a role that says how far it is gets all the time it needs, one that stands still does not', async () => {
  const clock = manualClock()
  let looks = 0
  const look = async () => {
    clock.advance(600)
    return `${Math.min(++looks, 9)} accounts done`
  }
  const options = { withinMs: 1000, signal: new AbortController().signal, clock, log: 'server.log', look }
  await assert.rejects(
    waitUntilReady({ name: 'serve', exits: [] }, { ...options, whileItGetsOn: true }),
    /serve did not start: 9 accounts done/,
  )
})

test('a stop ends the wait at once', async () => {
  const stop = new AbortController()
  const look = async () => {
    stop.abort()
    return 'not yet'
  }
  const options = { withinMs: 60_000, signal: stop.signal, clock: systemClock, log: 'server.log', look }
  await assert.rejects(waitUntilReady({ name: 'serve', exits: [] }, options), { name: 'AbortError' })
})
