import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderAccess, renderIdentities } from './access.ts'

const rules = renderAccess()
  .split('\n')
  .filter(line => line !== '' && !line.startsWith('#'))

test('no rule trusts, and over the network only people and replication come in, by password from loopback', () => {
  for (const rule of rules) assert.ok(!/\b(trust|md5|password)\b/.test(rule), rule)
  for (const rule of rules.filter(one => one.startsWith('host'))) {
    assert.match(
      rule,
      /^host \S+ (moonyetis_user|moonyetis_replication) (127\.0\.0\.1\/32|::1\/128) scram-sha-256$/,
    )
  }
})

test('on the socket each role is known by its operating-system user', () => {
  for (const rule of rules.filter(one => one.startsWith('local'))) assert.match(rule, / peer map=moonyetis$/)
})

test('while a recovery is not begun the application finds no line, and nobody else is missed', () => {
  const closed = renderAccess({ closed: true })
  assert.ok(!closed.includes('moonyetis_app'))
  assert.equal(closed, renderAccess().replace('moonyetis_app,', ''))
})

test('two operating-system users with one name are written once, quotes in a name are doubled', () => {
  const text = renderIdentities(['nobody', 'nobody', 'o"b'])
  assert.equal(text.match(/^moonyetis "nobody" moonyetis_app$/gm)?.length, 1)
  assert.ok(text.includes('moonyetis "o""b" postgres\n'))
  assert.ok(!text.includes('moonyetis_user'))
})
