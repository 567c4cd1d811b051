import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { Failure } from '#lib/errors.ts'
import { hashServerSeed } from './draw.ts'
import { isClientSeed, loadSeedKeys, newSeedKey, newServerSeed, SeedKeys } from './seeds.ts'

const key = randomBytes(32)
const keys = new SeedKeys({ currentKid: 'k1', keys: new Map([['k1', key]]) })

function fails(code: string, ...secrets: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof Failure)
    assert.equal(error.code, code)
    for (const secret of secrets) assert.ok(!inspect(error, { depth: 9 }).includes(secret))
    return true
  }
}

test('a server seed is 64 lowercase hex characters, never the same', () => {
  assert.match(newServerSeed(), /^[0-9a-f]{64}$/)
  assert.notEqual(newServerSeed(), newServerSeed())
})

test('a client seed is 1 to 64 letters, digits, underscores and hyphens', () => {
  for (const good of ['a', 'moonyetis', 'A-z_09', 'x'.repeat(64)]) assert.ok(isClientSeed(good), good)
  for (const bad of ['', 'a:1', 'a b', 'é', 'a\n', 'x'.repeat(65), '"']) assert.ok(!isClientSeed(bad), bad)
})

test('a sealed seed opens with its key and context, and is sealed anew each time', () => {
  const seed = newServerSeed()
  const context = hashServerSeed(seed)
  const sealed = keys.seal(seed, context)
  assert.equal(keys.open(sealed, context), seed)
  assert.equal(keys.open(new Uint8Array(sealed), context), seed)
  assert.equal(sealed.length, 1 + 1 + 2 + 12 + 32 + 16)
  assert.deepEqual([...sealed.subarray(0, 4)], [1, 2, 0x6b, 0x31])
  assert.notDeepEqual(keys.seal(seed, context), sealed)
  assert.ok(!sealed.toString('hex').includes(seed))
})

test('another context, a changed byte or a cut never opens, and the failure tells no secret', () => {
  const seed = newServerSeed()
  const sealed = keys.seal(seed, 'context')
  const unreadable = fails('GAME_SEED_UNREADABLE', seed, key.toString('hex'))
  assert.throws(() => keys.open(sealed, 'other'), unreadable)
  for (let place = 0; place < sealed.length; place++) {
    const changed = Buffer.from(sealed)
    changed[place] = (changed[place] as number) ^ 1
    assert.throws(() => keys.open(changed, 'context'), unreadable, `byte ${place}`)
    assert.throws(() => keys.open(sealed.subarray(0, place), 'context'), unreadable, `cut at ${place}`)
  }
})

test('after a new key old seeds open with the old one and new seeds use the new', () => {
  const old = keys.seal(newServerSeed(), 'c')
  const rotated = new SeedKeys({
    currentKid: 'k2',
    keys: new Map([
      ['k1', key],
      ['k2', randomBytes(32)],
    ]),
  })
  assert.equal(rotated.open(old, 'c'), keys.open(old, 'c'))
  const fresh = rotated.seal(newServerSeed(), 'c')
  assert.throws(() => keys.open(fresh, 'c'), fails('GAME_SEED_UNREADABLE'))
  const imposter = new SeedKeys({ currentKid: 'k1', keys: new Map([['k1', randomBytes(32)]]) })
  assert.throws(() => imposter.open(old, 'c'), fails('GAME_SEED_UNREADABLE'))
})

test('keys load from their secrets; a missing or malformed one is named without its text', () => {
  const secrets: Record<string, string> = { k1: newSeedKey(), k2: `${newSeedKey()}\n`, bad: 'f00d' }
  const read = (kid: string) => secrets[kid]
  const loaded = loadSeedKeys({ currentKid: 'k2', kids: ['k1'], read })
  assert.equal(loaded.currentKid, 'k2')
  const seed = newServerSeed()
  assert.equal(loaded.open(loaded.seal(seed, 'c'), 'c'), seed)
  const invalid = fails('GAME_SEED_KEYS_INVALID', 'f00d')
  assert.throws(() => loadSeedKeys({ currentKid: 'k3', kids: [], read }), invalid)
  assert.throws(() => loadSeedKeys({ currentKid: 'k1', kids: ['bad'], read }), invalid)
})

test('a printed SeedKeys shows no key', () => {
  const printed = inspect(keys, { depth: 9, showHidden: true }) + JSON.stringify(keys)
  assert.ok(!printed.includes(key.toString('hex')) && !/Uint8Array|Buffer/.test(printed))
})
