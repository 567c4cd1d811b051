import assert from 'node:assert/strict'
import { test } from 'node:test'
import { canonicalJson, cleanEvent, type Detail, hashEvent } from './event.ts'

function cleaned(detail: Detail): Detail {
  return cleanEvent({ actor: 'a', action: 'b', target: 'c', detail }).detail
}

test('the same value has one text, whatever the order of its names', () => {
  const value = { b: [1, 'x', null, { z: true, a: 'ü' }], a: 0.1 }
  const same = { a: 0.1, b: [1, 'x', null, { a: 'ü', z: true }] }
  assert.equal(canonicalJson(value), '{"a":0.1,"b":[1,"x",null,{"a":"ü","z":true}]}')
  assert.equal(canonicalJson(same), canonicalJson(value))
})

test('each field counts in the hash', () => {
  const event = {
    sequence: 1,
    recordedAt: '2026-01-01T00:00:00.000Z',
    actor: 'a',
    action: 'b',
    target: 'c',
    detail: { n: 1 },
    previousHash: '0',
  }
  const hashes = new Set([
    hashEvent(event),
    ...Object.keys(event).map(name => hashEvent({ ...event, [name]: name === 'sequence' ? 2 : { n: 2 } })),
  ])
  assert.equal(hashes.size, 8)
})

test('secrets are masked by name and by look', () => {
  const player = `myp_${'A'.repeat(43)}`
  const operator = `myo_0123456789ab_${'-_'.repeat(21)}B`
  const detail = cleaned({
    token: 'x',
    apiSecret: 'x',
    Cookie: 'x',
    serverSeed: 'x',
    note: `sent ${player} and ${operator}.`,
    deep: [{ password: 'x', fine: 'y', [operator]: 1 }],
  })
  assert.deepEqual(detail, {
    token: '[redacted]',
    apiSecret: '[redacted]',
    Cookie: '[redacted]',
    serverSeed: '[redacted]',
    note: 'sent [redacted] and [redacted].',
    deep: [{ password: '[redacted]', fine: 'y', '[redacted]': 1 }],
  })
  const whole = cleanEvent({ actor: operator, action: `x${player}`, target: operator, detail: {} })
  assert.deepEqual(whole, { actor: '[redacted]', action: 'x[redacted]', target: '[redacted]', detail: {} })
})

test('what PostgreSQL cannot store is replaced', () => {
  assert.deepEqual(cleaned({ text: 'a\u0000b\ud800', n: Number.NaN }), { text: 'a\ufffdb\ufffd', n: null })
})

test('an event is bounded', () => {
  assert.equal((cleaned({ text: 'x'.repeat(5000) }).text as string).length, 1000)
  const wide = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`key${i}`, 'y'.repeat(900)]))
  assert.deepEqual(Object.keys(cleaned(wide)), ['leftOutCharacters'])
  let deep: Detail = {}
  for (let i = 0; i < 50; i++) deep = { deep }
  assert.ok(canonicalJson(cleaned(deep)).length < 200)
})
