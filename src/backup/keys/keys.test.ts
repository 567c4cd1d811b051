import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { inspect } from 'node:util'
import { generateIdentity, identityToRecipient } from 'age-encryption'
import fc from 'fast-check'
import { type Home, openHome, readSecret } from '#lib/home.ts'
import { isRecipient, newAgeKeyPair, recipientOf } from './age-keys.ts'
import { dataKeyId, dataKeyOf, newRandomDataKey } from './data-keys.ts'
import { identityText, parseIdentityText } from './identity-file.ts'
import { kitText } from './kit-text.ts'
import { newPassphrase, normalPassphrase } from './passphrase.ts'
import { recipientsOf } from './recipients.ts'
import { KeyRing, recoveryFrom } from './ring.ts'
import { ensureBackupKeys } from './setup.ts'

const root = mkdtempSync(join(tmpdir(), 'moonyetis-keys-'))
after(() => rmSync(root, { recursive: true, force: true }))

let home: Home
let homes = 0
beforeEach(() => {
  home = openHome(join(root, String(homes++)))
})

test('age keys are those that age makes and understands', async () => {
  for (let round = 0; round < 20; round++) {
    const { identity, recipient } = newAgeKeyPair()
    assert.equal(await identityToRecipient(identity), recipient)
    const other = await generateIdentity()
    assert.equal(recipientOf(other), await identityToRecipient(other))
  }
})

test('a mistyped identity or recipient is none, wherever the mistake is', () => {
  const { identity, recipient } = newAgeKeyPair()
  const mistype = (text: string, at: number) => {
    const wrong = text[at] === 'q' || text[at] === 'Q' ? 'p' : 'q'
    return `${text.slice(0, at)}${text === text.toUpperCase() ? wrong.toUpperCase() : wrong}${text.slice(at + 1)}`
  }
  for (let at = 0; at < identity.length; at++) assert.equal(recipientOf(mistype(identity, at)), undefined)
  for (let at = 0; at < recipient.length; at++) assert(!isRecipient(mistype(recipient, at)))
  for (const text of ['', 'age1', identity.slice(0, -1), `${identity}Q`, identity.toLowerCase()])
    assert.equal(recipientOf(text), undefined)
})

test('a data key is named by its bytes and shows them nowhere', () => {
  const key = newRandomDataKey()
  assert.match(key.id, /^[0-9a-f]{32}$/)
  assert.equal(dataKeyOf(key.bytes).id, key.id)
  // openssl kdf -keylen 16 -kdfopt digest:SHA256 -kdfopt hexkey:00...00 -kdfopt info:"moonyetis data key id" HKDF
  assert.equal(dataKeyId(Buffer.alloc(32)), '8df7e95f1b299570b06517de89420540')
  const shown = `${inspect({ key }, { showHidden: true })}${JSON.stringify({ key })}${String(key)}`
  assert(!shown.includes(key.bytes.toString('hex')) && !shown.includes(key.bytes.toString('base64')))
})

test('a generated passphrase is found again however it is typed, and one of your own stays as it is', () => {
  const passphrase = newPassphrase()
  assert.match(passphrase, /^(?:[0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{2}$/)
  const typed = passphrase.toLowerCase().replaceAll('-', ' ').replaceAll('0', 'o').replaceAll('1', 'l')
  assert.equal(normalPassphrase(typed), passphrase)
  assert.equal(normalPassphrase(` ${passphrase.replaceAll('-', '')}\n`), passphrase)
  assert.equal(normalPassphrase('correct horse battery staple'), 'correct horse battery staple')
  fc.assert(
    fc.property(fc.string(), text => normalPassphrase(normalPassphrase(text)) === normalPassphrase(text)),
  )
})

test('an identity file is read with its comments, and one with anything else in it is not', () => {
  const { identity } = newAgeKeyPair()
  const signer = Buffer.alloc(32, 1).toString('base64')
  const text = identityText({ identity, repositoryId: 'ab'.repeat(16), signer, createdAt: new Date(0) })
  assert.deepEqual(parseIdentityText(text), { identities: [identity], repositoryId: 'ab'.repeat(16), signer })
  assert.deepEqual(parseIdentityText(`# created: x\r\n\r\n${identity}\r\n`), { identities: [identity] })
  for (const wrong of ['', '# only a comment', `${identity}\nAGE-SECRET-KEY-1X`, `x${identity}`])
    assert.equal(parseIdentityText(wrong), undefined)
})

test('the ring keeps the keys of the newest chain, for other processes and the next start too', () => {
  const [old, kept, later] = [newRandomDataKey(), newRandomDataKey(), newRandomDataKey()]
  const [ring, other] = [new KeyRing({ home }), new KeyRing({ home })]
  for (const key of [old, kept]) ring.remember(key)
  assert.deepEqual([...other.remembered()].sort(), [old.id, kept.id].sort())
  assert(other.get(old.id)?.bytes.equals(old.bytes))
  const directory = join(home.state, 'backup-keys')
  assert.deepEqual(
    readdirSync(directory).map(name => statSync(join(directory, name)).mode & 0o777),
    [0o600, 0o600],
  )
  // Made by another process after this one has chosen.
  other.remember(later)
  ring.keepOnly([kept.id])
  assert.deepEqual([...ring.remembered()].sort(), [kept.id, later.id].sort())
  assert.equal(ring.get(old.id), undefined)
  assert.deepEqual([...new KeyRing({ home }).remembered()].sort(), [kept.id, later.id].sort())
})

test('the keys of one repository say nothing about those of another, and nameless ones are taken over', () => {
  const [nameless, one, other] = [newRandomDataKey(), newRandomDataKey(), newRandomDataKey()]
  new KeyRing({ home }).remember(nameless)
  const [first, second] = ['a', 'b'].map(digit => new KeyRing({ home }).of(digit.repeat(32)))
  assert(first && second)
  first.remember(one)
  second.remember(other)
  assert.deepEqual([...first.remembered()].sort(), [nameless.id, one.id].sort())
  assert.deepEqual(second.remembered(), [other.id])
  second.keepOnly([])
  const again = new KeyRing({ home })
  assert.deepEqual([...again.of('a'.repeat(32)).remembered()].sort(), [nameless.id, one.id].sort())
  assert.deepEqual(again.of('b'.repeat(32)).remembered(), [])
})

test('a ring without a home remembers for its own life, and a damaged key file is no key', () => {
  const key = newRandomDataKey()
  const bare = new KeyRing({ identities: [newAgeKeyPair().identity] })
  bare.remember(key)
  assert.deepEqual(bare.remembered(), [key.id])
  bare.keepOnly([])
  assert.deepEqual(bare.remembered(), [])
  assert(!inspect(bare, { showHidden: true, depth: 9 }).includes('AGE-SECRET'))
  new KeyRing({ home }).remember(key)
  writeFileSync(join(home.state, 'backup-keys', key.id), Buffer.alloc(32))
  assert.deepEqual(new KeyRing({ home }).remembered(), [])
  assert.equal(new KeyRing({ home }).get('../../.secrets/backup_identity'), undefined)
})

test('play money gets its keys at the first start, real money only by the set-up', () => {
  const { made } = ensureBackupKeys({ home, chain: 'simulated' })
  assert.deepEqual(made, ['backup_identity', 'backup_recipient', 'backup_signing_key'])
  assert.deepEqual(ensureBackupKeys({ home, chain: 'simulated' }), { made: [] })
  assert.deepEqual(recipientsOf(home), [recipientOf(readSecret(home, 'backup_identity') as string)])
  for (const name of made) assert.equal(statSync(join(home.secrets, name)).mode & 0o777, 0o600)
  const real = openHome(join(root, 'real'))
  assert.throws(() => ensureBackupKeys({ home: real, chain: 'mainnet' }), { code: 'BACKUP_NOT_SET_UP' })
  assert.deepEqual(readdirSync(real.secrets), [])
})

test('a recipient with a typing error stops everything rather than being left out', () => {
  const { recipient } = newAgeKeyPair()
  writeFileSync(join(home.secrets, 'backup_recipient'), `# two of us\n${recipient}\n${recipient}x\n`)
  assert.throws(() => recipientsOf(home), { code: 'CONFIG_INVALID' })
})

test('identities come from the home and from a file, and what is wrong with a file repeats nothing of it', async () => {
  ensureBackupKeys({ home, chain: 'simulated' })
  const path = join(home.root, 'identity.txt')
  const { identity } = newAgeKeyPair()
  writeFileSync(path, `${identity}\n`)
  const own = readSecret(home, 'backup_identity')
  assert.deepEqual(await recoveryFrom({ home, identityFile: path }), { identities: [identity, own] })
  writeFileSync(path, `${identity.slice(0, -1)}\n`)
  const error = await recoveryFrom({ identityFile: path }).catch((error: Error) => error)
  assert.equal((error as { code?: string }).code, 'BACKUP_IDENTITY_UNUSABLE')
  assert(!inspect(error).includes(identity.slice(20, 40)))
  await assert.rejects(recoveryFrom({ identityFile: join(root, 'none') }), { message: /ENOENT/ })
})

test('the kit says in both languages what is needed to come back', () => {
  const kit = {
    ...{ passphrase: newPassphrase(), repository: 's3://bucket/moon', repositoryId: 'ab'.repeat(16) },
    ...{ recipient: newAgeKeyPair().recipient, fingerprint: '0123456789abcdef', signer: 'c2lnbmVy' },
  }
  for (const text of [kitText(kit, 'en'), kitText(kit, 'es')]) {
    for (const fact of Object.values(kit)) assert(text.includes(fact))
    assert.match(text, /npx moonyetis backup restore --to \w+ --latest/)
  }
  assert.notEqual(kitText(kit, 'en'), kitText(kit, 'es'))
})

test('private keys of the home stay as they were written', () => {
  ensureBackupKeys({ home, chain: 'simulated' })
  assert.match(
    readFileSync(join(home.secrets, 'backup_signing_key'), 'utf8'),
    /^-----BEGIN PRIVATE KEY-----\n/,
  )
})
