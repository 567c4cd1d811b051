import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  fitsHash,
  hashBytes,
  hashToken,
  isPlayerToken,
  keyOf,
  newKeyedToken,
  newPlayerToken,
} from './tokens.ts'

test('a player token is recognised, and near misses are not', () => {
  const token = newPlayerToken()
  assert.ok(isPlayerToken(token))
  assert.equal(token.length, 47)
  const misses = [
    '',
    token.slice(1),
    `${token}A`,
    `${token}\n`,
    token.replace('myp_', 'myo_'),
    `${token.slice(0, -1)}é`,
  ]
  for (const miss of misses) assert.equal(isPlayerToken(miss), false, miss)
})

test('a token is hashed as SHA-256 of its text', () => {
  const expected = createHash('sha256').update('myp_x').digest()
  assert.equal(hashToken('myp_x'), expected.toString('hex'))
  assert.deepEqual(Buffer.from(hashBytes('myp_x')), expected)
})

test('a keyed token names its row and its kind', () => {
  const { id, token, hash } = newKeyedToken('myo')
  assert.equal(keyOf('myo', token), id)
  assert.equal(keyOf('mys', token), undefined)
  assert.equal(keyOf('myo', newPlayerToken()), undefined)
  assert.ok(fitsHash(token, hash))
  assert.equal(fitsHash(newKeyedToken('myo').token, hash), false)
  assert.equal(fitsHash(token, hash.subarray(1)), false)
})
