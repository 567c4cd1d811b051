import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { afterEach, beforeEach, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { newRandomDataKey } from '../keys/data-keys.ts'
import { Damage } from './damage.ts'
import { SealPool } from './pool.ts'
import { openFrames, prove } from './reader.ts'
import { openWriter } from './writer.ts'

const { privateKey: signingKey, publicKey: signer } = generateKeyPairSync('ed25519')
const dataKey = newRandomDataKey()
const place = { object: 'backups/a/files', repositoryId: 'ab'.repeat(16) }

let pool: SealPool
beforeEach(() => {
  pool = new SealPool({ threads: 2 })
})
afterEach(() => pool.close())

function writer() {
  const header = { format: 1, ...place, kind: 'files', dataKey: dataKey.id, compression: 'zstd' } as const
  return openWriter({
    header: { ...header, facts: {} },
    salt: randomBytes(32),
    dataKey: dataKey.bytes,
    signingKey,
    works: pool,
  })
}

/** Half random, half zeros; of its own memory, so that it can be moved. */
function frameOf(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  bytes.set(randomBytes(length >> 1))
  return bytes
}

test('frames of all sizes that are sealed at once come back in their order', async () => {
  const sizes = [2 << 20, 1, 700_000, 3, 2 << 20, 65_536, 300_000, 12]
  const frames = sizes.map(frameOf)
  const content = Buffer.concat(frames)
  const sums = frames.map(frame => crc32c(frame))
  const sealing = writer()
  const order: number[] = []
  const receipts = await Promise.all(
    frames.map(async (frame, index) => {
      const receipt = await sealing.frame(frame.buffer, frame.length, [frame.length])
      order.push(index)
      return receipt
    }),
  )
  assert.deepEqual(
    order,
    sizes.map((_, index) => index),
  )
  assert.deepEqual(
    receipts.map(({ crcs }) => crcs),
    sums.map(sum => [sum]),
  )
  assert.deepEqual(
    receipts.map(({ raw }) => raw.byteLength),
    sizes,
  )
  const bytes = Buffer.concat((await sealing.finish()).parts)
  const object = prove(bytes, { ...place, signer })
  const opened = openFrames({ object, dataKey: dataKey.bytes, works: pool, ahead: 4 })
  assert(content.equals(Buffer.concat(await Array.fromAsync(opened))))
})

test('several objects share a pool', async () => {
  const contents = Array.from({ length: 5 }, () => frameOf(400_000))
  const objects = await Promise.all(
    contents.map(async content => {
      const sealing = writer()
      sealing.frame(content.slice().buffer, content.length)
      return Buffer.concat((await sealing.finish()).parts)
    }),
  )
  for (const [index, bytes] of objects.entries()) {
    const object = prove(bytes, { ...place, signer })
    const opened = openFrames({ object, dataKey: dataKey.bytes, works: pool, ahead: 2 })
    assert(Buffer.concat(await Array.fromAsync(opened)).equals(contents[index] as Uint8Array))
  }
})

test('a frame that does not open fails alone, and its neighbours are opened', async () => {
  const sealing = writer()
  sealing.frame(frameOf(1000).buffer, 1000)
  const object = prove(Buffer.concat((await sealing.finish()).parts), { ...place, signer })
  const wrongKey = openFrames({ object, dataKey: randomBytes(32), works: pool, ahead: 2 })
  await assert.rejects(Array.fromAsync(wrongKey), Damage)
  const rightKey = openFrames({ object, dataKey: dataKey.bytes, works: pool, ahead: 2 })
  assert.equal((await Array.fromAsync(rightKey)).length, 1)
})

test('after a thread has died every job fails with the reason, also the ones that wait and come later', async () => {
  await pool.close()
  const dying = "import{parentPort}from'node:worker_threads';parentPort.on('message',()=>process.exit(7))"
  pool = new SealPool({ threads: 2, script: new URL(`data:text/javascript,${dying}`) })
  const sealing = writer()
  const jobs = Array.from({ length: 8 }, () => sealing.frame(frameOf(1000).buffer, 1000))
  for (const job of [...jobs, sealing.finish(), writer().frame(frameOf(10).buffer, 10)])
    await assert.rejects(job, { code: 'BACKUP_WORKERS_GONE', message: /ended with 7/ })
})

test('a buffer that is under way already fails its own job alone', async () => {
  const { buffer } = frameOf(1000)
  const job = {
    verb: 'seal',
    raw: buffer,
    length: 1000,
    index: 0,
    compression: 'none',
    closing: false,
  } as const
  const sealing = { ...job, pieces: [], objectKey: new Uint8Array(32), headerHash: new Uint8Array(32) }
  const [first, second] = [pool.seal(sealing), pool.seal(sealing)]
  await assert.rejects(second)
  assert.equal((await first).raw.byteLength, 1000)
})

test('closing fails what is under way, with the reason', async () => {
  const job = writer().frame(frameOf(2 << 20).buffer, 2 << 20)
  await pool.close()
  await assert.rejects(job, { code: 'BACKUP_WORKERS_GONE', message: /the pool was closed/ })
  await assert.rejects(writer().frame(frameOf(10).buffer, 10), { code: 'BACKUP_WORKERS_GONE' })
})
