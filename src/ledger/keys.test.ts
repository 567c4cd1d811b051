import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { readIdempotencyKey, requestHash } from './keys.ts'

const stored = (text: string) => hash('sha256', text, 'buffer').subarray(0, 16).toString('hex')

test('a key is the first 128 bits of SHA-256 of its text, quoted or bare', () => {
  for (const [header, text] of [
    ['a', 'a'],
    ['"a"', 'a'],
    ['8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['"say \\"hi\\""'.replace(' ', '-'), 'say-"hi"'],
    ['"back\\\\slash"', 'back\\slash'],
    ['bare"quote', 'bare"quote'],
    ['!~', '!~'],
    ['x'.repeat(255), 'x'.repeat(255)],
  ] as const) {
    assert.equal(readIdempotencyKey(header).toString('hex'), stored(text), header)
  }
})

test('different texts are different keys, also where they look alike', () => {
  const texts = ['a', 'A', 'a"', "a'", 'a;b=1', '0', '00', '-0']
  assert.equal(new Set(texts.map(text => readIdempotencyKey(text).toString('hex'))).size, texts.length)
})

test('a key that is not there is told apart from one that makes no sense', () => {
  for (const header of [undefined, ''])
    assert.throws(() => readIdempotencyKey(header), { code: 'IDEMPOTENCY_KEY_MISSING' })
  for (const [header, problem] of [
    ['""', /is empty/],
    ['"', /opens a quote/],
    ['"a', /opens a quote/],
    ['"a"b', /opens a quote/],
    ['"a\\"', /opens a quote/],
    ['"a\\b"', /opens a quote/],
    ['"a"; version=1', /opens a quote/],
    ['"a", "b"', /opens a quote/],
    ['a, b', /space/],
    [' a', /space/],
    ['a\tb', /space/],
    ['a\u0000b', /outside visible ASCII/],
    ['clé', /outside visible ASCII/],
    ['a\u007f', /outside visible ASCII/],
    ['x'.repeat(256), /256 characters/],
    [`"${'x'.repeat(256)}"`, /256 characters/],
    [['a', 'b'], /more than once/],
  ] as const) {
    assert.throws(() => readIdempotencyKey(header as string | string[]), {
      code: 'IDEMPOTENCY_KEY_INVALID',
      message: problem,
    })
  }
})

test('a payload hash is a positive bigint that fits the column and tells payloads apart', () => {
  const hashes = Array.from({ length: 1000 }, (_, n) => requestHash(`seed-${n}`))
  assert.equal(new Set(hashes).size, 1000)
  assert.ok(hashes.every(one => one >= 0n && one < 2n ** 63n))
  assert.equal(requestHash('moonyetis'), requestHash('moonyetis'))
})
