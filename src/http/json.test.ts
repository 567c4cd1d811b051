import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Failure } from '#lib/errors.ts'
import { findFault, parseJson } from './json.ts'

const faultOf = (text: string) => {
  const fault = findFault(text)
  return fault && `${fault.field} ${fault.message}`
}
const failureOf = (text: string | Uint8Array): Failure => {
  try {
    parseJson(Buffer.from(text as string))
  } catch (error) {
    return error as Failure
  }
  return assert.fail(`${text} was accepted`)
}

test('a key given twice in one object is found, at every depth and behind every kind of value', () => {
  assert.equal(faultOf('{"a":1,"a":2}'), 'a is given twice')
  assert.equal(faultOf('{"a":{"b":1,"c":[{}, {"x":1,"y":2,"x":3}]}}'), 'a.c.1.x is given twice')
  assert.equal(faultOf('[{"a":"}","a":1}]'), '0.a is given twice')
  assert.equal(faultOf('{"a":[1,2,{"b":[]}],"c":true,"a":null}'), 'a is given twice')
  assert.equal(faultOf('{"":1,"":2}'), ' is given twice')
})

test('the same key in different objects, and text that looks like keys, are no duplicates', () => {
  for (const text of [
    '{"a":{"a":{"a":1}}}',
    '[{"a":1},{"a":1}]',
    '{"a":"\\"a\\":1,\\"a\\":2"}',
    '{"a":"{\\"b\\":1","b":"}"}',
    '{"a":"x\\\\","b":"\\\\\\"","c":1}',
    '{"a":["a","a","a"],"b":"a"}',
    '{"A":1,"a":2}',
    '{"a":"a","b":"a"}',
    '"a"',
    'null',
    ' { "a" : 1 , "b" : [ ] } ',
  ]) {
    assert.equal(faultOf(text), undefined, text)
  }
})

test('escapes do not hide a duplicate or a forbidden key', () => {
  assert.equal(faultOf('{"a":1,"\\u0061":2}'), 'a is given twice')
  assert.equal(faultOf('{"a\\"b":1,"a\\u0022b":2}'), 'a"b is given twice')
  assert.equal(faultOf('{"\\u005f_proto__":1}'), '__proto__ is not allowed as a name')
  assert.equal(faultOf('{"x":{"\\u0063onstructor":1}}'), 'x.constructor is not allowed as a name')
})

test('__proto__ and constructor are refused as keys and fine as values', () => {
  assert.equal(faultOf('{"__proto__":{}}'), '__proto__ is not allowed as a name')
  assert.equal(faultOf('{"a":[{"constructor":1}]}'), 'a.0.constructor is not allowed as a name')
  assert.equal(faultOf('{"a":"__proto__","b":["constructor"]}'), undefined)
})

test('integers that a double cannot hold are refused with their field', () => {
  const message = 'must be within -(2^53-1) and 2^53-1'
  assert.equal(faultOf('{"a":9007199254740991,"b":-9007199254740991}'), undefined)
  assert.equal(faultOf('{"a":[0,9007199254740992]}'), `a.1 ${message}`)
  assert.equal(faultOf('{"a":-9007199254740993}'), `a ${message}`)
  assert.equal(faultOf('9007199254740993'), ` ${message}`)
  for (const text of ['1e16', '1E400', '-1e999', '123456789012345678901234567890', '9007199254740993.0']) {
    assert.equal(faultOf(`{"a":${text}}`), `a ${message}`, text)
  }
  for (const text of ['1e3', '0.1', '1e-400', '0.12345678901234567890', '-0', '1.5e10']) {
    assert.equal(faultOf(`{"a":${text}}`), undefined, text)
  }
})

test('nesting is bounded', () => {
  assert.equal(faultOf(`${'['.repeat(32)}${']'.repeat(32)}`), undefined)
  assert.match(faultOf(`${'['.repeat(33)}${']'.repeat(33)}`) ?? '', /nested more than 32 deep/)
  assert.match(faultOf(`${'{"a":'.repeat(33)}1${'}'.repeat(33)}`) ?? '', /nested more than 32 deep/)
})

test('thousands of keys and thousands of backslashes cost no more than their length', () => {
  const keys = Array.from({ length: 4_000 }, (_, i) => `"key${i}":${i}`).join(',')
  const startedMs = performance.now()
  assert.equal(faultOf(`{${keys}}`), undefined)
  assert.equal(faultOf(`{${keys},"key17":1}`), 'key17 is given twice')
  assert.equal(faultOf(`{"a":"${'\\\\'.repeat(8_000)}","b":"${'\\"'.repeat(8_000)}"}`), undefined)
  assert.ok(performance.now() - startedMs < 1_000)
})

const safeJson = fc.jsonValue({ maxDepth: 5 }).filter(value => !/e\+|[0-9]{17}/.test(JSON.stringify(value)))

test('any JSON value without such keys passes and comes out as it went in', () => {
  fc.assert(
    fc.property(safeJson, value => {
      const text = JSON.stringify(value)
      if (/__proto__|constructor|\\u/.test(text)) return
      assert.deepEqual(parseJson(Buffer.from(text)), JSON.parse(text))
    }),
  )
})

test('a duplicate put anywhere into a random document is found', () => {
  const keys = fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 12 })
  const isForbidden = (key: string) => key === '__proto__' || key === 'constructor'
  fc.assert(
    fc.property(
      keys,
      safeJson,
      fc.nat(),
      fc.array(fc.constantFrom('[', '{"x":'), { maxLength: 5 }),
      (names, value, pick, around) => {
        if (names.some(isForbidden) || /__proto__|constructor/.test(JSON.stringify(value))) return
        const pairs = names.map(name => `${JSON.stringify(name)}:${JSON.stringify(value)}`)
        const inside = `{${[...pairs, pairs[pick % pairs.length]].join(',')}}`
        const text = around.reduceRight((inner, open) => `${open}${inner}${open === '[' ? ']' : '}'}`, inside)
        assert.match(faultOf(text) ?? '', /is given twice$/)
      },
    ),
  )
})

test('text that is no JSON is refused with its place and without its content', () => {
  const failure = failureOf('{"password": hunter2}')
  assert.equal(failure.code, 'BAD_REQUEST')
  assert.doesNotMatch(JSON.stringify([failure.message, failure.facts]), /unter2/)
  for (const text of [
    '',
    ' ',
    '{',
    '{"a":1,}',
    '01',
    "{'a':1}",
    'NaN',
    '\ufeff{}',
    '{"a":"\u0000"}',
    '{}{}',
  ]) {
    assert.equal(failureOf(text).code, 'BAD_REQUEST', JSON.stringify(text))
  }
})

test('bytes that are not UTF-8 are refused', () => {
  for (const bytes of [
    [0x22, 0xff, 0x22],
    [0x22, 0xc0, 0x80, 0x22],
    [0x22, 0xed, 0xa0, 0x80, 0x22],
  ]) {
    assert.match(failureOf(Uint8Array.from(bytes)).message, /not UTF-8/)
  }
})

test('NUL and half of a surrogate pair are refused with their field, whole pairs are fine', () => {
  const message = 'must not hold NUL or half of a surrogate pair'
  assert.deepEqual(failureOf('{"a":[1,{"b":"x\\u0000"}]}').facts.errors, [{ field: 'a.1.b', message }])
  assert.deepEqual(failureOf('{"a":"\\ud83d"}').facts.errors, [{ field: 'a', message }])
  assert.deepEqual(failureOf('"\\udc00"').facts.errors, [{ field: '', message }])
  assert.equal(failureOf('{"\\u0000":1}').code, 'VALIDATION')
  assert.deepEqual(parseJson(Buffer.from('{"a":"\\ud83d\\ude00 \\\\u0000 ñ"}')), { a: '😀 \\u0000 ñ' })
})
