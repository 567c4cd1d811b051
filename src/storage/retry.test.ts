import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backoffFor, deadlineFor, usualPatience } from './retry.ts'

const pauses = (random: number, askedSeconds = 0) =>
  [1, 2, 3, 4, 5, 6, 7, 8].map(attempt => backoffFor({ ...usualPatience, attempt, random, askedSeconds }))

test('pauses double up to the longest, each somewhere in its upper half', () => {
  assert.deepEqual(pauses(0), [125, 250, 500, 1000, 2000, 4000, 5000, 5000])
  assert.deepEqual(pauses(1), [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000])
})

test('a store that names a time is given it, up to the longest', () => {
  assert.equal(pauses(0, 3)[0], 3000)
  assert.equal(pauses(0, 3600)[0], 10_000)
})

test('a request may take longer the more it carries', () => {
  assert.equal(deadlineFor(usualPatience, 0), 60_000)
  assert.equal(deadlineFor(usualPatience, 64 * 1024 * 1024), 60_000 + 512_000)
})
