import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gameConfig, gameVersion } from './version.ts'

test('the version changes only on purpose', () => {
  // Stored in every round. A new literal here means a new game: keep the old rules for the rounds that name them.
  assert.equal(gameVersion, '56c12bc93c21b66d')
})

test('the config names strips, paylines, paytable, exact RTP and version as plain frozen JSON', () => {
  assert.deepEqual(JSON.parse(JSON.stringify(gameConfig)), gameConfig)
  assert.deepEqual(Object.keys(gameConfig), ['strips', 'paylines', 'paytable', 'rtp', 'version'])
  assert.deepEqual(gameConfig.rtp, { numerator: '32227167', denominator: '33554432' })
  assert.deepEqual(gameConfig.paytable.yeti, [40, 200, 1000])
  assert.ok(Object.isFrozen(gameConfig) && Object.isFrozen(gameConfig.strips[0]))
})
