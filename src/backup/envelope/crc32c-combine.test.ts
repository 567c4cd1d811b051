import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import fc from 'fast-check'
import { crc32cCombine } from './crc32c-combine.ts'

test('the sums of two parts give the sum of the whole, whatever they are', () => {
  const part = fc.uint8Array({ maxLength: 3000 })
  fc.assert(
    fc.property(part, part, (a, b) => {
      const whole = crc32c(new Uint8Array([...a, ...b]))
      assert.equal(crc32cCombine(crc32c(a), crc32c(b), b.length), whole)
    }),
  )
})

test('a part of gigabytes takes as few steps as its length has digits', () => {
  const zeros = new Uint8Array(1 << 20)
  let expected = crc32c(new Uint8Array([1, 2, 3]))
  for (let i = 0; i < 64; i++) expected = crc32c(zeros, expected)
  let sum = crc32c(zeros)
  for (let length = zeros.length; length < zeros.length * 64; length *= 2)
    sum = crc32cCombine(sum, sum, length)
  assert.equal(crc32cCombine(crc32c(new Uint8Array([1, 2, 3])), sum, zeros.length * 64), expected)
  // Beyond 32 bits: two halves of 4 GiB are as one of 8 GiB.
  const fourGiB = 2 ** 32
  const once = crc32cCombine(crc32cCombine(1, 2, fourGiB), 2, fourGiB)
  assert.equal(once, crc32cCombine(1, crc32cCombine(2, 2, fourGiB), 2 * fourGiB))
})
