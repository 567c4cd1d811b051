import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SessionCache } from './session-cache.ts'

test('an entry ends at its time', () => {
  const cache = new SessionCache<string>(10)
  cache.set('a', 'A', 1000)
  assert.equal(cache.get('a', 999), 'A')
  assert.equal(cache.get('a', 1000), undefined)
  assert.equal(cache.size, 0)
})

test('a full cache lets go of what was not used', () => {
  const cache = new SessionCache<string>(2)
  cache.set('used', '1', 1000)
  cache.set('idle', '2', 1000)
  cache.get('used', 0)
  cache.set('new', '3', 1000)
  assert.equal(cache.get('idle', 0), undefined)
  assert.equal(cache.get('used', 0), '1')
  assert.equal(cache.get('new', 0), '3')
})

test('it never holds more than its bound, also when everything was used', () => {
  const cache = new SessionCache<number>(3)
  for (let i = 0; i < 100; i++) {
    cache.set(`key ${i}`, i, 1000)
    for (let j = 0; j <= i; j++) cache.get(`key ${j}`, 0)
    assert.ok(cache.size <= 3)
  }
  assert.equal(cache.get('key 99', 0), 99)
})
