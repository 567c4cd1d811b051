import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock, systemClock } from './clock.ts'

test('a manual clock stands still until it is advanced, and both times move together', () => {
  const clock = manualClock('2026-03-01T10:00:00Z')
  assert.equal(clock.now().toISOString(), '2026-03-01T10:00:00.000Z')
  assert.equal(clock.monotonicMs(), 0)
  clock.advance(1500)
  assert.equal(clock.now().toISOString(), '2026-03-01T10:00:01.500Z')
  assert.equal(clock.monotonicMs(), 1500)
})

test('a manual clock refuses to go back and refuses a start that is no time', () => {
  assert.throws(() => manualClock().advance(-1), RangeError)
  assert.throws(() => manualClock().advance(Number.NaN), RangeError)
  assert.throws(() => manualClock('yesterday'), TypeError)
})

test('the system clock reads wall time and a monotonic time that does not go back', () => {
  assert.ok(Math.abs(systemClock.now().getTime() - Date.now()) < 1_000)
  const before = systemClock.monotonicMs()
  assert.ok(systemClock.monotonicMs() >= before)
})
