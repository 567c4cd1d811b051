import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { commonErrors, commonFailure, defineErrors, Failure, libErrors } from './errors.ts'

const { failure } = defineErrors({
  DOOR_STUCK: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'The door is stuck',
    message: 'Door {door} is stuck after {tries} tries.',
    hint: 'Oil door {door}.',
  },
})

test('a failure fills the holes of its row with its facts and keeps its cause', () => {
  const cause = new Error('rust')
  const error = failure('DOOR_STUCK', { door: 'left', tries: 3 }, { cause })
  assert.ok(error instanceof Failure)
  assert.equal(error.message, 'Door left is stuck after 3 tries.')
  assert.equal(error.hint, 'Oil door left.')
  assert.equal(error.code, 'DOOR_STUCK')
  assert.equal(error.row.status, 503)
  assert.equal(error.cause, cause)
})

test('a fact that nobody gave stays visible as its hole', () => {
  assert.equal(failure('DOOR_STUCK', { door: 'left' }).message, 'Door left is stuck after {tries} tries.')
  assert.equal(commonFailure('REFUSED', { reason: 'no' }).hint, undefined)
})

test('facts of every kind become text, and a fact with holes in it is not filled again', () => {
  const text = (door: unknown) => failure('DOOR_STUCK', { door, tries: 1 }).message
  assert.equal(text(['a', 'b']), 'Door a, b is stuck after 1 tries.')
  assert.equal(text(10n), 'Door 10 is stuck after 1 tries.')
  assert.equal(text({ a: 1 }), 'Door {"a":1} is stuck after 1 tries.')
  assert.equal(text(new Date(0)), 'Door 1970-01-01T00:00:00.000Z is stuck after 1 tries.')
  assert.equal(text('{tries}'), 'Door {tries} is stuck after 1 tries.')
})

test('names of the prototype are no facts', () => {
  const rows = defineErrors({
    X: { status: 500, exit: 1, retry: false, title: 't', message: '{constructor}' },
  })
  assert.equal(rows.failure('X').message, '{constructor}')
})

test('any text is safe as a fact', () => {
  fc.assert(
    fc.property(fc.string(), door => {
      assert.equal(failure('DOOR_STUCK', { door, tries: 0 }).message, `Door ${door} is stuck after 0 tries.`)
    }),
  )
})

test('retryAfterSeconds is whole seconds, rounded up, and absent when unknown or nonsense', () => {
  const seconds = (retryAfterSeconds: unknown) =>
    failure('DOOR_STUCK', { retryAfterSeconds }).retryAfterSeconds
  assert.equal(seconds(1.2), 2)
  assert.equal(seconds(0), 0)
  for (const bad of [undefined, -1, Number.NaN, Number.POSITIVE_INFINITY, '5'])
    assert.equal(seconds(bad), undefined)
})

test('every row has a status of an error, an exit number and texts', () => {
  for (const [code, row] of Object.entries({ ...commonErrors.rows, ...libErrors.rows })) {
    assert.ok(row.status >= 400 && row.status <= 599, code)
    assert.ok([1, 2, 3].includes(row.exit), code)
    assert.ok(row.title.length > 0 && row.message.length > 0, code)
  }
})
