import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { newAgeKeyPair } from '#backup/keys/age-keys.ts'
import { newRandomDataKey } from '#backup/keys/data-keys.ts'
import { KeyRing } from '#backup/keys/ring.ts'
import { newSigningKey } from '#backup/keys/signing.ts'
import { newSeedKey } from '#game/seeds.ts'
import { newKeyedToken, newPlayerToken } from '#identity/tokens.ts'
import { ensureSecret, type Home, openHome } from '#lib/home.ts'
import { keyFilesCheck } from './key-files.ts'
import { newRedactor, secretValuesOf } from './redact.ts'

function newHome(t: TestContext): Home {
  const root = mkdtempSync(join(tmpdir(), 'moonyetis-doctor-'))
  t.after(() => rmSync(root, { recursive: true }))
  return openHome(root)
}

test('every secret of the home is masked wherever it stands, by line, and data keys too', t => {
  const home = newHome(t)
  const pem = newSigningKey()
  const secrets = {
    db_password: 'correct-horse',
    'seed_keys/k1': newSeedKey(),
    backup_signing_key: pem,
    backup_identity: newAgeKeyPair().identity,
  }
  for (const [name, value] of Object.entries(secrets)) ensureSecret(home, name, () => value)
  const key = newRandomDataKey()
  new KeyRing({ home }).remember(key)
  const dataKey = key.bytes.toString('base64')
  const redact = newRedactor(home, [])
  const values = [...Object.values(secrets), ...pem.split('\n').slice(1, -1), dataKey]
  for (const value of values) {
    const log = JSON.stringify({ msg: `tried ${value} in vain` })
    for (const text of [log, `psql: ${value}\n`]) {
      const redacted = redact(text)
      assert.ok(!redacted.includes(value), redacted)
      for (const line of value.split('\n').slice(1, -1)) assert.ok(!redacted.includes(line), redacted)
    }
  }
  assert.ok(secretValuesOf(home).length >= 6)
})

test('what looks like a secret is masked, whoever’s it is, and words stay', t => {
  const redact = newRedactor(newHome(t), [
    {
      key: 'k',
      value: 'postgresql://app:p%40ss-word@host/db',
      source: 'environment',
      description: '',
      secret: true,
    },
  ])
  const strange = [
    newPlayerToken(),
    newKeyedToken('myo').token,
    newKeyedToken('mys').token,
    newAgeKeyPair().identity,
    newSigningKey(),
  ]
  for (const value of strange) assert.ok(!redact(`is ${value} here`).includes(value.slice(10)))
  for (const [text, secret] of [
    ['Authorization: Bearer abcdefgh12345', 'abcdefgh12345'],
    ['{"password":"hunter2"}', 'hunter2'],
    [`ALTER ROLE x PASSWORD = 'hunter2'`, 'hunter2'],
    ['connecting to postgres://me:hunter2@db:5432/x', 'hunter2'],
    ['p@ss-word was refused', 'p@ss-word'],
    ['serverSeed: 0123456789abcdef', '0123456789abcdef'],
  ] as const)
    assert.ok(!redact(text).includes(secret), redact(text))
  const harmless = '{"level":"info","role":"serve","msg":"listening","port":3000}'
  assert.equal(redact(harmless), harmless)
})

test('keys that others may read are named with their mend', t => {
  const home = newHome(t)
  ensureSecret(home, 'db_password', () => 'secret')
  assert.deepEqual(keyFilesCheck(home), { name: 'key files', ok: true, seen: '1, private' })
  chmodSync(join(home.secrets, 'db_password'), 0o644)
  const check = keyFilesCheck(home)
  assert.deepEqual([check.ok, check.seen], [false, 'others may read .secrets/db_password'])
  assert.match(check.mend ?? '', /chmod 600 \.secrets\/db_password$/)
})
