import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nextRestart, noRestarts, type RestartPolicy } from './restarts.ts'

const policy: RestartPolicy = { firstDelayMs: 250, longestDelayMs: 2_000, stableAfterMs: 60_000 }

test('the first crash restarts at once, later ones wait twice as long each time up to the bound', () => {
  const delays: number[] = []
  let history = noRestarts
  for (let crash = 0; crash < 7; crash++) {
    const next = nextRestart(history, 100, policy)
    delays.push(next.delayMs)
    history = next.history
  }
  assert.deepEqual(delays, [0, 250, 500, 1_000, 2_000, 2_000, 2_000])
})

test('a process that ran long enough starts a new row', () => {
  const afterMany = { inARow: 9 }
  assert.equal(nextRestart(afterMany, 59_999, policy).delayMs, 2_000)
  assert.deepEqual(nextRestart(afterMany, 60_000, policy), { history: { inARow: 1 }, delayMs: 0 })
})

test('the delay stays bounded after a thousand crashes', () => {
  assert.equal(nextRestart({ inARow: 2_000 }, 0, policy).delayMs, 2_000)
})
