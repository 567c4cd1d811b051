import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPassphrase } from '#backup/keys/passphrase.ts'
import { confirmationQuestion, isLastGroup, kitPages, languagesOf } from './words.ts'

const passphrase = '0A1B-2C3D-4E5F-6G7H-8J9K-ABCD-10'
const kit = {
  passphrase,
  recipient: 'age1recipient',
  fingerprint: 'f',
  signer: 's',
  text: (language: 'en' | 'es') => `${language}: ${passphrase}\n`,
}

test('both languages show the kit, and say where it belongs', () => {
  const text = kitPages(kit, ['en', 'es'])
  assert.equal(text.split(passphrase).length - 1, 2)
  assert.match(text, /two copies in two places, neither of them on this server/)
  assert.match(text, /dos copias en dos lugares, ninguna en este servidor/)
  assert.ok(!kitPages(kit, ['es']).includes('This is shown once'))
})

test('the last group is taken however it is typed, another group is not', () => {
  for (const typed of ['10', ' 10 ', 'IO', 'lo', '-10']) assert.ok(isLastGroup(typed, passphrase), typed)
  for (const typed of ['', 'ABCD', '1', '010', passphrase]) assert.ok(!isLastGroup(typed, passphrase), typed)
  const generated = newPassphrase()
  assert.ok(isLastGroup(generated.slice(-2).toLowerCase(), generated))
})

test('a language is English, Spanish or both', () => {
  assert.deepEqual(languagesOf('both'), ['en', 'es'])
  assert.deepEqual(languagesOf('es'), ['es'])
  assert.equal(languagesOf('fr'), undefined)
  assert.match(confirmationQuestion(['en', 'es']), /last group[\s\S]*último grupo/)
})
