import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ArrayWriter, bigintArray, parseBigints } from './arrays.ts'

test('an array is one dimension from 1, without NULLs, of length-prefixed elements', () => {
  assert.equal(
    bigintArray([1n, -1n]).toString('hex'),
    ['00000001', '00000000', '00000014', '00000002', '00000001']
      .concat(['00000008', '0000000000000001', '00000008', 'ffffffffffffffff'])
      .join(''),
  )
})

test('an array that was not written to its end, or past it, is a fault', () => {
  const short = new ArrayWriter('integer', 2)
  short.integer(1)
  assert.throws(() => short.finish(), /written to its end/)
  const long = new ArrayWriter('integer', 1)
  long.integer(1)
  assert.throws(() => long.integer(2), RangeError)
})

test('a value that does not fit its type is refused, not cut', () => {
  assert.throws(() => new ArrayWriter('integer', 1).integer(2 ** 31), RangeError)
  assert.throws(() => bigintArray([2n ** 63n]), RangeError)
})

test('what PostgreSQL prints of a bigint array is read with its NULLs', () => {
  assert.deepEqual(parseBigints('{1,NULL,-9223372036854775808}'), [1n, undefined, -(2n ** 63n)])
  assert.deepEqual(parseBigints('{NULL}'), [undefined])
  assert.deepEqual(parseBigints('{}'), [])
  assert.deepEqual(parseBigints(null), [])
})
