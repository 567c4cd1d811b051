import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatChips, parseChips } from './units.ts'

test('every amount the ledger can hold survives the way to text and back', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), chips => {
      assert.equal(parseChips(formatChips(chips)), chips)
    }),
  )
})

test('anything but a canonical digit string within 64 bits is refused', () => {
  for (const bad of [
    '',
    ' 1',
    '1 ',
    '+1',
    '-1',
    '01',
    '1.0',
    '1e3',
    '0x1',
    '١',
    '1\n',
    '9223372036854775808',
    '99999999999999999999',
  ]) {
    assert.equal(parseChips(bad), undefined, JSON.stringify(bad))
  }
  assert.equal(parseChips('0'), 0n)
  assert.equal(parseChips('9223372036854775807'), 2n ** 63n - 1n)
})

test('text is accepted exactly when formatting gives it back', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9]{1,22}$/)), text => {
      const chips = parseChips(text)
      if (chips !== undefined) assert.equal(formatChips(chips), text)
    }),
  )
})
