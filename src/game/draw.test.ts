import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { drawHmac, drawStops, hashServerSeed, packStops, unpackStops } from './draw.ts'

const serverSeed = `${'0'.repeat(63)}1`
const clientSeed = 'moonyetis'

test('the commitment hashes the seed as text', () => {
  assert.equal(hashServerSeed(serverSeed), 'c386d8e8d07342f2e39e189c8e6c57bb205bb373fe4e3a6f69404a8bb767b417')
})

test('the published examples of nonce 0 and 1 are reproduced', () => {
  const first = '0c87fcff568d8b9b6e82a0f7ff9d673c39321924cff26bcec010f0dd869f8b31'
  const second = 'f4e0ab88105e436f7391f849c4494b6ccba3f81fc1baeb22bab78a336cf8b014'
  assert.equal(drawHmac({ serverSeed, clientSeed, nonce: 0 }), first)
  assert.equal(drawHmac({ serverSeed, clientSeed, nonce: 1n }), second)
  // 0x0c, 0x56, 0x6e, 0xff, 0x39 and 0xf4, 0x10, 0x73, 0xc4, 0xcb without their two lowest bits.
  assert.deepEqual(unpackStops(drawStops({ serverSeed, clientSeed, nonce: 0 })), [3, 21, 27, 63, 14])
  assert.deepEqual(unpackStops(drawStops({ serverSeed, clientSeed, nonce: 1 })), [61, 4, 28, 49, 50])
})

test('every draw is the five big-endian u32 >>> 26 of the contract', () => {
  const inputs = fc.record({
    serverSeed: fc.stringMatching(/^[0-9a-f]{64}$/),
    clientSeed: fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/),
    nonce: fc.oneof(fc.maxSafeNat(), fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })),
  })
  const holds = fc.property(inputs, input => {
    const message = `${input.clientSeed}:${input.nonce}:0`
    const mac = createHmac('sha256', Buffer.from(input.serverSeed)).update(message).digest()
    const stops = [0, 4, 8, 12, 16].map(offset => mac.readUInt32BE(offset) >>> 26)
    assert.deepEqual(unpackStops(drawStops(input)), stops)
    assert.equal(drawHmac(input), mac.toString('hex'))
  })
  fc.assert(holds, { seed: 1 })
})

test('packing keeps the stops, reel 0 in the highest bits', () => {
  assert.equal(packStops([63, 0, 0, 0, 0]), 63 * 2 ** 24)
  const stop = fc.integer({ min: 0, max: 63 })
  const holds = fc.property(fc.tuple(stop, stop, stop, stop, stop), stops => {
    assert.deepEqual(unpackStops(packStops(stops)), stops)
  })
  fc.assert(holds, { seed: 1 })
})
