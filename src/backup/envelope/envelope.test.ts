import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { crc32c } from '@node-rs/crc32'
import fc from 'fast-check'
import { type DataKey, newRandomDataKey } from '../keys/data-keys.ts'
import type { SealedHeader } from '../model.ts'
import { Damage } from './damage.ts'
import { encodeHeader, parseHeader } from './header.ts'
import { onThisThread } from './pool.ts'
import { type Expected, openFrames, prove } from './reader.ts'
import { openWriter } from './writer.ts'

const { privateKey: signingKey, publicKey: signer } = generateKeyPairSync('ed25519')
const repositoryId = 'ab'.repeat(16)
const object = 'backups/20261124T020000Z-full-1a2b3c/files'
const expected: Expected = { object, repositoryId, signer }

function headerOf(dataKey: DataKey, changes: Partial<SealedHeader> = {}): SealedHeader {
  return {
    format: 1,
    repositoryId,
    object,
    kind: 'files',
    dataKey: dataKey.id,
    salt: randomBytes(32).toString('base64'),
    compression: 'zstd',
    facts: {},
    ...changes,
  }
}

function writerFor(dataKey: DataKey, changes: Partial<SealedHeader> = {}, key = signingKey) {
  const header = headerOf(dataKey, changes)
  const salt = Buffer.from(header.salt, 'base64')
  return openWriter({ header, salt, dataKey: dataKey.bytes, signingKey: key, works: onThisThread })
}

async function sealed(
  dataKey: DataKey,
  frames: readonly Uint8Array[],
  changes: Partial<SealedHeader> = {},
  key = signingKey,
): Promise<Buffer> {
  const writer = writerFor(dataKey, changes, key)
  for (const frame of frames) writer.frame(new Uint8Array(frame).buffer, frame.length)
  return Buffer.concat((await writer.finish()).parts)
}

async function opened(bytes: Buffer, dataKey: DataKey, to: Expected = expected): Promise<Buffer> {
  const proven = prove(bytes, to)
  const frames = openFrames({ object: proven, dataKey: dataKey.bytes, works: onThisThread, ahead: 2 })
  return Buffer.concat(await Array.fromAsync(frames))
}

const dataKey = newRandomDataKey()
const text = (words: string) => Buffer.from(words)

test('what was sealed is what is opened, for any bytes in any frames, compressed or not', async () => {
  const frame = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 2000 }),
    // What zstd shortens a lot.
    fc.integer({ min: 1, max: 300_000 }).map(length => new Uint8Array(length).fill(7)),
  )
  const compression = fc.constantFrom('zstd', 'none')
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 6 }), compression, async (frames, compression) => {
      const bytes = await sealed(dataKey, frames, { compression })
      assert(Buffer.concat(frames).equals(await opened(bytes, dataKey)))
      if (compression === 'zstd') assert(bytes.length < 2000 * 6 + 2000)
    }),
    { numRuns: 60 },
  )
})

test('the size so far is the size of the object that ends there', async () => {
  const writer = writerFor(dataKey)
  await writer.frame(new Uint8Array(5000).buffer, 5000)
  await writer.frame(randomBytes(1000).buffer as ArrayBuffer, 1000)
  const size = writer.storedBytes
  const { bytes, parts, sha256 } = await writer.finish()
  assert.equal(size, bytes)
  assert.equal(Buffer.concat(parts).length, bytes)
  prove(Buffer.concat(parts), { ...expected, facts: { key: object, bytes, sha256 } })
})

test('the sums of pieces are those of the raw bytes, and the buffer comes back', async () => {
  const raw = new Uint8Array(randomBytes(1000))
  const [first, second] = [crc32c(raw.subarray(0, 10)), crc32c(raw.subarray(10, 900))]
  const writer = writerFor(dataKey)
  const receipt = await writer.frame(raw.buffer, 1000, [10, 890])
  assert.deepEqual(receipt, { crcs: [first, second], raw: raw.buffer })
  await writer.finish()
})

test('every flipped bit, cut and added byte is found without a key', async () => {
  const bytes = await sealed(dataKey, [text('a secret of some length'), text('another one')])
  const isDamaged = (changed: Buffer) => assert.throws(() => prove(changed, expected), Damage)
  for (let at = 0; at < bytes.length; at++) {
    const flipped = Buffer.from(bytes)
    flipped[at] = (flipped[at] as number) ^ (1 << (at % 8))
    isDamaged(flipped)
    isDamaged(bytes.subarray(0, at))
    isDamaged(Buffer.concat([bytes.subarray(0, at), Buffer.from([0]), bytes.subarray(at)]))
  }
  isDamaged(Buffer.concat([bytes, Buffer.from([0])]))
  prove(bytes, expected)
})

test('an object is refused elsewhere, in another repository, and when somebody else signed it', async () => {
  const bytes = await sealed(dataKey, [text('content')])
  assert.throws(() => prove(bytes, { ...expected, object: 'backups/x/files' }), /it belongs at backups\/2026/)
  assert.throws(() => prove(bytes, { ...expected, repositoryId: '00'.repeat(16) }), /another repository/)
  const stranger = generateKeyPairSync('ed25519')
  const forged = await sealed(dataKey, [text('content')], {}, stranger.privateKey)
  assert.throws(() => prove(forged, expected), /not signed/)
})

test('a whole object is refused where the marker names another one of the same place', async () => {
  const [first, second] = [await sealed(dataKey, [text('1')]), await sealed(dataKey, [text('2')])]
  const { bytes, sha256 } = { bytes: first.length, sha256: '00'.repeat(32) }
  assert.throws(() => prove(second, { ...expected, facts: { key: object, bytes, sha256 } }), /another one/)
  assert.throws(
    () => prove(second, { ...expected, facts: { key: object, bytes: 3, sha256 } }),
    /instead of 3/,
  )
})

test('parts of two objects that the same signer wrote make no third one', async () => {
  const [one, two] = [await sealed(dataKey, [text('one')]), await sealed(dataKey, [text('two')])]
  assert.equal(one.length, two.length)
  for (let at = 1; at < one.length; at++) {
    const mixed = Buffer.concat([one.subarray(0, at), two.subarray(at)])
    if (!mixed.equals(one) && !mixed.equals(two)) assert.throws(() => prove(mixed, expected), Damage)
  }
})

test('frames that the signature covers and the key did not seal are refused when they are opened', async () => {
  const other = newRandomDataKey()
  const bytes = await sealed(other, [text('content')], { dataKey: dataKey.id })
  await assert.rejects(opened(bytes, dataKey), /a frame does not open/)
})

test('a salt is never used for two objects, so equal content never looks equal', async () => {
  const [one, two] = [await sealed(dataKey, [text('same')]), await sealed(dataKey, [text('same')])]
  const body = (bytes: Buffer) => bytes.subarray(bytes.length - 250)
  assert.notDeepEqual(body(one), body(two))
})

test('a header has one spelling, known kinds and bounded values', () => {
  const good = headerOf(dataKey)
  assert.deepEqual(parseHeader(encodeHeader(good)), good)
  const wal = {
    ...{ systemIdentifier: '7711677056603304589', timeline: 1, segment: '000000010000000000000001' },
    ...{ segmentBytes: 16777216, start: '0/1000000', end: '0/2000000' },
  }
  parseHeader(encodeHeader({ ...good, kind: 'wal', facts: { ...wal, laterFact: 'x' } as never }))
  const wrong: [object, RegExp][] = [
    [{ ...good, format: 2 }, /newer format/],
    [{ ...good, format: 0 }, /not one of this format/],
    [{ ...good, kind: 'wal' }, /not one of this format/],
    [{ ...good, kind: 'unheard-of' }, /not one of this format/],
    [{ ...good, kind: 'wal', facts: { ...wal, end: 'x' } }, /not one of this format/],
    [{ ...good, more: 1 }, /not one of this format/],
    [{ ...good, dataKey: '../../etc' }, /not one of this format/],
    [{ ...good, facts: { padding: 'x'.repeat(70_000) } }, /too long/],
  ]
  for (const [header, reason] of wrong)
    assert.throws(() => parseHeader(Buffer.from(JSON.stringify(header))), reason)
  const spelt = JSON.stringify(good).replace('"format":1', '"format":1,"format":1')
  assert.throws(() => parseHeader(Buffer.from(spelt)), /one allowed form/)
  assert.throws(() => parseHeader(Buffer.from(JSON.stringify(good, null, 1))), /one allowed form/)
  for (const nonsense of ['', 'null', '[]', '{"', '7'])
    assert.throws(() => parseHeader(Buffer.from(nonsense)), Damage)
})

test('nothing that is shown of a key or a writer tells its bytes', () => {
  const writer = writerFor(dataKey)
  const shown = [
    inspect(dataKey, { showHidden: true, depth: 9 }),
    JSON.stringify({ dataKey }),
    inspect(writer),
  ]
  for (const text of shown)
    for (const secret of [dataKey.bytes.toString('hex'), dataKey.bytes.toString('base64'), 'Buffer'])
      assert(!text.includes(secret), text)
})
