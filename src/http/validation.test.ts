import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import Type, { type TSchema } from 'typebox'
import type { Failure } from '#lib/errors.ts'
import { closeObjects, type FieldError, validatorCompiler } from './validation.ts'

type Outcome = true | { value: unknown } | { error: Failure }

const check = (schema: TSchema, value: unknown, httpPart = 'body'): Outcome =>
  validatorCompiler({ schema: closeObjects(schema), httpPart, method: 'POST', url: '/x' })(value) as Outcome

function errorsOf(schema: TSchema, value: unknown, httpPart?: string): Record<string, string> {
  const outcome = check(schema, value, httpPart)
  assert.ok(outcome !== true && 'error' in outcome, `accepted: ${JSON.stringify(outcome)}`)
  assert.equal(outcome.error.code, 'VALIDATION')
  const fields = outcome.error.facts.errors as FieldError[]
  for (const { field, message } of fields) assert.ok(outcome.error.message.includes(message), field)
  return Object.fromEntries(fields.map(({ field, message }) => [field, message]))
}

const spin = Type.Object({
  stakePerLine: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
  lines: Type.Integer({ minimum: 1, maximum: 10 }),
  mode: Type.Optional(Type.Union([Type.Literal('fast'), Type.Literal('slow')])),
  extra: Type.Optional(Type.Object({ tag: Type.String({ maxLength: 3 }) })),
})

test('every offending field of a body is named with its mend', () => {
  assert.equal(check(spin, { stakePerLine: 1, lines: 10, mode: 'fast', extra: { tag: 'abc' } }), true)
  assert.deepEqual(
    errorsOf(spin, { stakePerLine: '5', line: 3, mode: 'x', extra: { tag: 'long', tug: 1 } }),
    {
      lines: 'is missing: give an integer from 1 to 10',
      line: 'is not known (did you mean lines?)',
      stakePerLine: 'must be an integer from 1 to 1000000',
      mode: 'must be one of fast, slow',
      'extra.tug': 'is not known (did you mean tag?)',
      'extra.tag': 'must be a text of at most 3 characters',
    },
  )
})

test('a body is never coerced', () => {
  for (const bad of ['5', 5.5, true, null, [5], {}, '', 1e300, 0, -1, 1_000_001]) {
    assert.ok('stakePerLine' in errorsOf(spin, { stakePerLine: bad, lines: 1 }), JSON.stringify(bad))
  }
})

test('a body that is missing or no object says so', () => {
  assert.deepEqual(errorsOf(spin, null), { '': 'is missing: send a JSON object' })
  for (const bad of [[], 'x', 5, true]) assert.deepEqual(errorsOf(spin, bad), { '': 'must be a JSON object' })
})

test('names of the prototype are unknown properties like any other', () => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    const body = JSON.parse(`{"stakePerLine":1,"lines":1,"${name}":1}`)
    assert.match(errorsOf(spin, body)[name] ?? '', /is not known/)
  }
})

test('a hostile body gets a short answer that repeats none of its values', () => {
  const many = Object.fromEntries(
    Array.from({ length: 1_000 }, (_, i) => [`${'k'.repeat(500)}${i}`, 'SECRET']),
  )
  const outcome = check(spin, many) as { error: Failure }
  assert.ok((outcome.error.facts.errors as FieldError[]).length <= 10)
  assert.ok(outcome.error.message.length < 3_000)
  assert.doesNotMatch(outcome.error.message, /SECRET/)
})

test('every object in a schema is closed, unless its author opened it', () => {
  const open = Type.Object({ any: Type.Object({}, { additionalProperties: true }) })
  assert.equal(check(open, { any: { x: 1 } }), true)
  const nested = Type.Object({
    list: Type.Array(Type.Union([Type.Object({ a: Type.Integer() }), Type.Null()])),
  })
  assert.equal(check(nested, { list: [{ a: 1 }, null] }), true)
  assert.ok(Object.keys(errorsOf(nested, { list: [{ a: 1, b: 2 }] })).length > 0)
})

const page = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
  won: Type.Optional(Type.Boolean()),
  cursor: Type.Optional(Type.String({ maxLength: 10 })),
})

test('a query is read as the types of its schema, with its defaults', () => {
  assert.deepEqual(check(page, {}, 'querystring'), { value: { limit: 20 } })
  assert.deepEqual(check(page, { limit: '5', won: 'true', cursor: '7' }, 'querystring'), {
    value: { limit: 5, won: true, cursor: '7' },
  })
})

test('a query that does not fit is named, as is one given twice, unknown, or holding NUL', () => {
  for (const bad of ['', 'x', '1.5', '0', '101', '1e1', '9007199254740993', '0x5', ['1', '2']]) {
    assert.deepEqual(errorsOf(page, { limit: bad }, 'querystring'), {
      limit: 'must be an integer from 1 to 100',
    })
  }
  assert.deepEqual(errorsOf(page, { limt: '1' }, 'querystring'), {
    limt: 'is not known (did you mean limit?)',
  })
  assert.deepEqual(errorsOf(page, { cursor: 'a\u0000' }, 'querystring'), { cursor: 'must not hold NUL' })
  const proto = JSON.parse('{"__proto__":"x"}')
  assert.ok(Object.hasOwn(errorsOf(page, proto, 'querystring'), '__proto__'))
})

test('path parameters are read by type and refused by name', () => {
  const params = Type.Object({ id: Type.Integer({ minimum: 1 }) })
  assert.deepEqual(check(params, { id: '7' }, 'params'), { value: { id: 7 } })
  assert.deepEqual(errorsOf(params, { id: 'x' }, 'params'), { id: 'must be an integer of at least 1' })
})

test('whatever arrives is accepted or refused as VALIDATION, never an exception', () => {
  fc.assert(
    fc.property(
      fc.jsonValue(),
      fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.array(fc.string()))),
      (body, query) => {
        for (const outcome of [check(spin, body), check(page, query, 'querystring')]) {
          if (outcome !== true && 'error' in outcome) assert.equal(outcome.error.code, 'VALIDATION')
        }
      },
    ),
  )
})
