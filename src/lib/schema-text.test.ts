import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import Type from 'typebox'
import { describeExpected, nearestHint, textToValue } from './schema-text.ts'

test('text becomes the type that the schema asks for', () => {
  assert.equal(textToValue(Type.Integer(), ' 42 '), 42)
  assert.equal(textToValue(Type.Number(), '0.5'), 0.5)
  assert.equal(textToValue(Type.Boolean(), 'TRUE'), true)
  assert.equal(textToValue(Type.Boolean(), '0'), false)
  assert.deepEqual(textToValue(Type.Array(Type.String()), 'a, b,,c'), ['a', 'b', 'c'])
  assert.deepEqual(textToValue(Type.Array(Type.Integer()), '1,2'), [1, 2])
  assert.deepEqual(textToValue(Type.Object({ a: Type.Integer() }), '{"a":1}'), { a: 1 })
  assert.equal(textToValue(Type.String(), '42'), '42')
  assert.equal(textToValue(Type.Union([Type.Literal('a'), Type.Literal('b')]), 'b'), 'b')
  assert.equal(textToValue(Type.Union([Type.Integer(), Type.Literal('auto')]), '3'), 3)
  assert.equal(textToValue(Type.Union([Type.Integer(), Type.Literal('auto')]), 'auto'), 'auto')
})

test('text that does not fit stays text, so that the check can name it', () => {
  for (const bad of ['', 'x', '1.5', '1e3', '0x10', '9007199254740992', 'NaN']) {
    assert.equal(textToValue(Type.Integer(), bad), bad)
  }
  for (const bad of ['', 'x', 'Infinity', 'NaN']) assert.equal(textToValue(Type.Number(), bad), bad)
  for (const bad of ['', 'yes', '2']) assert.equal(textToValue(Type.Boolean(), bad), bad)
  assert.equal(textToValue(Type.Object({}), '{'), '{')
})

test('every safe integer survives as text', () => {
  fc.assert(fc.property(fc.maxSafeInteger(), n => assert.equal(textToValue(Type.Integer(), String(n)), n)))
})

test('what is expected reads as the end of a sentence', () => {
  const port = Type.Integer({ minimum: 0, maximum: 65535, unit: 'ms' })
  assert.equal(describeExpected(port), 'an integer from 0 to 65535 (ms)')
  assert.equal(describeExpected(Type.Number({ minimum: 1 })), 'a number of at least 1')
  assert.equal(describeExpected(Type.Integer({ maximum: 9 })), 'an integer of at most 9')
  assert.equal(describeExpected(Type.Boolean()), 'true or false')
  assert.equal(describeExpected(Type.Union([Type.Literal('a'), Type.Literal('b')])), 'one of a, b')
  assert.equal(describeExpected(Type.Union([Type.Integer(), Type.Null()])), 'an integer or null')
  assert.equal(describeExpected(Type.Array(Type.String())), 'a list, each a text')
  assert.equal(describeExpected(Type.Object({})), 'an object')
  const name = Type.String({ minLength: 1, maxLength: 64, pattern: '^[a-z]+$' })
  assert.equal(describeExpected(name), 'a text from 1 to 64 characters of the form ^[a-z]+$')
  const described = Type.String({
    pattern: '^[1-9][0-9]*$',
    description: 'Chips as a digit string such as "10".',
  })
  assert.equal(describeExpected(described), 'a text: Chips as a digit string such as "10"')
})

test('the nearest name is offered only when it is near', () => {
  assert.equal(nearestHint('prot', ['port', 'host']), ' (did you mean port?)')
  assert.equal(nearestHint('completely-different', ['port']), '')
  assert.equal(nearestHint('x', []), '')
  assert.equal(nearestHint('MOONYETIS_GAME__X', ['MOONYETIS_LOG__LEVEL']), '')
})
