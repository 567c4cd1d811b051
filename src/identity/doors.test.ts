import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Caller, cookieRules, credentialOf, Doors } from './doors.ts'
import type { OperatorRole } from './operator-store.ts'

function caller(headers: Record<string, string>, cookies: Record<string, string> = {}): Caller {
  return { headers, cookies }
}

test('a bearer token is read whatever the case of its scheme', () => {
  for (const text of ['Bearer abc', 'bearer abc', 'BEARER  abc ']) {
    assert.equal(credentialOf(caller({ authorization: text }), 'c'), 'abc')
  }
})

test('an Authorization header that is no bearer token is no token, whatever the cookie says', () => {
  const malformed = [
    '',
    'Bearer',
    'Bearer ',
    'Basic abc',
    'Bearer a b',
    'Bearer "a"',
    `Bearer ${'\u00e9'}`,
    'abc',
  ]
  for (const text of malformed) {
    assert.equal(credentialOf(caller({ authorization: text }, { c: 'cookie' }), 'c'), undefined, text)
  }
})

test('without the header the cookie counts', () => {
  assert.equal(credentialOf(caller({}, { c: 'cookie' }), 'c'), 'cookie')
  assert.equal(credentialOf(caller({}), 'c'), undefined)
})

test('cookies are Secure and bound to their host exactly when the public address is https', () => {
  const plain = cookieRules(undefined)
  assert.deepEqual(plain, {
    player: 'moonyetis_session',
    operator: 'moonyetis_operator',
    attributes: { httpOnly: true, sameSite: 'strict', path: '/', secure: false },
  })
  assert.deepEqual(cookieRules('http://127.0.0.1:3000'), plain)
  const secure = cookieRules('https://play.example')
  assert.equal(secure.player, '__Host-moonyetis_session')
  assert.equal(secure.operator, '__Host-moonyetis_operator')
  assert.equal(secure.attributes.secure, true)
})

test('a role opens its own door and those of lesser roles', async () => {
  const allowed: Record<OperatorRole, OperatorRole[]> = {
    admin: ['admin', 'operator', 'metrics'],
    operator: ['operator', 'metrics'],
    metrics: ['metrics'],
  }
  for (const role of ['admin', 'operator', 'metrics'] as const) {
    const doors = new Doors({
      sessions: { peek: () => undefined, find: async () => undefined },
      operators: { authenticate: text => (text === 'good' ? { id: '1', role, label: '' } : undefined) },
    })
    for (const needed of ['admin', 'operator', 'metrics'] as const) {
      const enter = doors.requireRole(needed)
      await assert.rejects(enter(caller({})), { code: 'UNAUTHENTICATED' })
      await assert.rejects(enter(caller({ authorization: 'Bearer bad' })), { code: 'UNAUTHENTICATED' })
      const known = enter(caller({}, { moonyetis_operator: 'good' }))
      if (allowed[role].includes(needed)) await known
      else await assert.rejects(known, { code: 'FORBIDDEN' })
    }
  }
})
