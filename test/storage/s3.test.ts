import assert from 'node:assert/strict'
import http from 'node:http'
import { after, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { createLog, silentLog } from '#lib/log.ts'
import { endpointFor } from '#storage/locations.ts'
import { type OpenOptions, openStorage } from '#storage/open.ts'
import { S3Storage } from '#storage/s3.ts'
import type { Storage } from '#storage/storage.ts'
import { hasCode, keysOf } from '#test/storage/contract.ts'
import { startS3, type TestS3, testPatience } from '#test/storage/s3-server.ts'

const server = startS3({ after })
const secret = 'S3RVER'

async function setUp(o: Partial<OpenOptions['s3'] & object> = {}) {
  const s3 = await server
  await s3.faults.clear()
  const storage = await openStorage({ url: s3.url, s3: { ...s3.options, ...o }, log: silentLog })
  await s3.faults.seen()
  return { s3, storage }
}

const text = async (storage: Storage, key: string) => (await storage.get(key)).toString()
const bytes = (given: string) => [Buffer.from(given)]
const impatient = { patience: { ...testPatience, stallMs: 300 } }

describe('requests to S3 that fail by chance', () => {
  for (const status of [429, 500, 503]) {
    test(`${status} is met by asking again, as often as patience goes`, async () => {
      const { s3, storage } = await setUp()
      await s3.faults.inject({ kind: 'error', status, code: 'SlowDown', times: 3 })
      await storage.put(`again/${status}`, bytes('stored'))
      assert.equal((await s3.faults.seen()).length, 4)
      await s3.faults.inject({ kind: 'error', status, code: 'SlowDown', times: 4 })
      await assert.rejects(storage.get(`again/${status}`), hasCode('STORAGE_UNAVAILABLE'))
      assert.equal(await text(storage, `again/${status}`), 'stored')
    })
  }

  test('a conflict of two conditional writes is tried again', async () => {
    const { s3, storage } = await setUp()
    await s3.faults.inject({ kind: 'error', status: 409, code: 'ConditionalRequestConflict', times: 2 })
    assert.equal(await storage.putNew('conflict', bytes('one')), true)
    await s3.faults.inject({ kind: 'error', status: 409, code: 'ConditionalRequestConflict' })
    assert.equal(await storage.putNew('conflict', bytes('two')), false)
  })

  test('a store that stands still, before or in its answer, is given up and asked again', async () => {
    const { s3, storage } = await setUp(impatient)
    await storage.put('stall', [Buffer.alloc(100_000, 7)])
    await s3.faults.inject({ kind: 'stall' })
    await s3.faults.inject({ kind: 'stall-body', bytes: 1_000 })
    assert.deepEqual(await storage.get('stall'), Buffer.alloc(100_000, 7))
    await s3.faults.inject({ kind: 'stall', times: 4 })
    await assert.rejects(storage.get('stall'), hasCode('STORAGE_TIMEOUT'))
  })

  test('a slow answer that goes on is waited for, but not for ever', async () => {
    const { s3, storage } = await setUp()
    await storage.put('slow', [Buffer.alloc(100_000, 7)])
    await s3.faults.inject({ kind: 'slow', bytes: 20_000, everyMs: 100 })
    assert.deepEqual(await storage.get('slow'), Buffer.alloc(100_000, 7))
    await s3.faults.seen()
    const hasty = { ...testPatience, requestMs: 300, slowestBytesPerSecond: 1e9, attempts: 2 }
    const { storage: other } = await setUp({ patience: hasty })
    await s3.faults.inject({ kind: 'slow', bytes: 1_000, everyMs: 50, times: 2 })
    await assert.rejects(other.get('slow'), hasCode('STORAGE_TIMEOUT'))
  })

  test('an answer that breaks off is never taken for the object', async () => {
    const { s3, storage } = await setUp()
    await storage.put('cut', [Buffer.alloc(100_000, 7)])
    await s3.faults.inject({ kind: 'cut', bytes: 5_000, times: 3 })
    assert.equal((await storage.get('cut')).length, 100_000)
    await s3.faults.inject({ kind: 'cut', bytes: 5_000, times: 4 })
    await assert.rejects(storage.get('cut'), hasCode('STORAGE_TRUNCATED'))
  })

  test('an answer that claims to be whole and is not is refused, for a part and for all', async () => {
    const { s3, storage } = await setUp()
    await storage.put('short', [Buffer.alloc(1_000, 7)])
    for (const range of [{}, { offset: 100 }, { offset: 100, length: 500 }]) {
      await s3.faults.inject({ kind: 'truncate', bytes: 90 })
      await assert.rejects(storage.get('short', range), hasCode('STORAGE_TRUNCATED'))
    }
  })

  test('a connection that ends at any point of a write costs nothing but another try', async () => {
    const { s3, storage } = await setUp()
    for (const kind of ['drop', 'drop-applied'] as const) {
      await s3.faults.inject({ kind, times: 2 })
      await storage.put(`lost/${kind}`, bytes(kind))
      assert.equal(await text(storage, `lost/${kind}`), kind)
    }
  })

  test('an early refusal of a large body is heard', async () => {
    const { s3, storage } = await setUp()
    await s3.faults.inject({ kind: 'error', status: 403, code: 'AccessDenied', early: true, times: 10 })
    const large = [Buffer.alloc(30_000_000, 1)]
    await assert.rejects(storage.put('early', large), /STORAGE_(REFUSED|UNAVAILABLE)|refuses|cannot be used/)
    await s3.faults.clear()
    assert.equal(await storage.head('early'), undefined)
  })

  test('cancelling ends a request that stands still', async () => {
    const { s3, storage } = await setUp()
    const cancel = new AbortController()
    await s3.faults.inject({ kind: 'stall' })
    const put = storage.put('cancel', bytes('x'), { signal: cancel.signal })
    cancel.abort(new Error('enough'))
    await assert.rejects(put, /enough/)
  })
})

describe('a putNew whose answer was lost', () => {
  test('is known to have won when its own bytes are there', async () => {
    const { s3, storage } = await setUp()
    await s3.faults.inject({ kind: 'drop-applied' })
    assert.equal(await storage.putNew('ambiguous/won', bytes('mine')), true)
    await s3.faults.inject({ kind: 'error', status: 500, applied: true })
    assert.equal(await storage.putNew('ambiguous/error', bytes('mine')), true)
    assert.equal(await text(storage, 'ambiguous/error'), 'mine')
  })

  test('is known to have lost when other bytes are there', async () => {
    const { s3, storage } = await setUp()
    await storage.put('ambiguous/lost', bytes('theirs'))
    await s3.faults.inject({ kind: 'drop-applied' })
    assert.equal(await storage.putNew('ambiguous/lost', bytes('mine!!')), false)
    await s3.faults.inject({ kind: 'drop-applied', method: 'PUT', times: 4 })
    assert.equal(await storage.putNew('ambiguous/lost', bytes('mine!!')), false)
    assert.equal(await text(storage, 'ambiguous/lost'), 'theirs')
  })

  test('is resolved by reading even when every try was lost', async () => {
    const { s3, storage } = await setUp()
    await s3.faults.inject({ kind: 'drop-applied', method: 'PUT', times: 4 })
    assert.equal(await storage.putNew('ambiguous/all', bytes('mine')), true)
  })

  test('fails when nothing was written at all', async () => {
    const { s3, storage } = await setUp()
    await s3.faults.inject({ kind: 'drop', method: 'PUT', times: 4 })
    await assert.rejects(storage.putNew('ambiguous/none', bytes('mine')), hasCode('STORAGE_UNAVAILABLE'))
    assert.equal(await storage.putNew('ambiguous/none', bytes('later')), true)
  })
})

describe('listing and deleting in S3', () => {
  test('a listing of several pages is one, from any key on', async () => {
    const { s3 } = await setUp()
    const storage = new S3Storage({
      bucket: 'moonyetis-test',
      prefix: 'paged',
      endpoint: endpointFor({ bucket: 'moonyetis-test', region: 'us-east-1', endpoint: s3.endpoint }),
      region: 'us-east-1',
      accessKeyId: secret,
      secretAccessKey: secret,
      conditional: true,
      keysPerPage: 7,
      log: silentLog,
    })
    const keys = Array.from({ length: 40 }, (_, index) => `p/${String(index).padStart(3, '0')}`)
    for (const key of keys) await storage.put(key, bytes(key))
    await s3.faults.seen()
    assert.deepEqual(await keysOf(storage, 'p/'), keys)
    assert.equal((await s3.faults.seen()).length, 6)
    assert.deepEqual(await keysOf(storage, 'p/', keys[10]), keys.slice(11))
    await s3.faults.inject({ kind: 'error', status: 503, url: 'continuation-token', times: 2 })
    assert.deepEqual(await keysOf(storage, ''), keys)
  })

  test('what others keep in the bucket is not listed', async () => {
    const { s3, storage } = await setUp()
    const root = await openStorage({ url: 's3://moonyetis-test', s3: s3.options, log: silentLog })
    await root.put('other/object', bytes('x'))
    await storage.put('own/object', bytes('x'))
    assert.deepEqual(await keysOf(storage, 'o'), ['own/object'])
    assert((await keysOf(root, '')).includes('other/object'))
  })

  test('many are deleted in one request, and one by one where the store cannot do that', async () => {
    const { s3, storage } = await setUp()
    const keys = Array.from({ length: 20 }, (_, index) => `delete/${index}`)
    for (const one of ['at once', 'one by one']) {
      for (const key of keys) await storage.put(key, bytes(key))
      await s3.faults.seen()
      if (one === 'one by one') await s3.faults.inject({ kind: 'error', status: 501, method: 'POST' })
      await storage.delete(keys)
      const requests = await s3.faults.seen()
      assert.equal(requests.length, one === 'at once' ? 1 : 21)
      assert.deepEqual(await keysOf(storage, 'delete/'), [])
    }
  })
})

describe('what S3 refuses is said in words', () => {
  const refused: Array<[what: string, change: (s3: TestS3) => Partial<OpenOptions>, says: RegExp]> = [
    [
      'an unknown key id',
      s3 => ({ s3: { ...s3.options, accessKeyId: 'NOBODY' } }),
      /does not know the access key id/,
    ],
    [
      'a wrong secret',
      s3 => ({ s3: { ...s3.options, secretAccessKey: 'wrong-secret' } }),
      /secret access key does not belong/,
    ],
    [
      'an absent bucket',
      () => ({ url: 's3://no-such-bucket/prefix' }),
      /there is no bucket no-such-bucket at 127/,
    ],
  ]
  for (const [what, change, says] of refused) {
    test(`${what} fails at opening`, async () => {
      const s3 = await server
      await s3.faults.clear()
      const options = {
        url: `${s3.url}/${says.source.length}`,
        s3: s3.options,
        log: silentLog,
        ...change(s3),
      }
      await assert.rejects(openStorage(options), error => {
        assert(hasCode('STORAGE_REFUSED')(error))
        assert.match(String(error), says)
        return true
      })
    })
  }

  test('a key that may only read opens the store for reading', async () => {
    const { s3, storage } = await setUp()
    await storage.put('readable', bytes('yes'))
    // By another name, since this process has asked the store already.
    const endpoint = s3.endpoint.replace('127.0.0.1', 'localhost')
    await s3.faults.inject({ kind: 'error', status: 403, code: 'AccessDenied', method: 'PUT', times: 100 })
    const reading = await openStorage({ url: s3.url, s3: { ...s3.options, endpoint }, log: silentLog })
    assert((await s3.faults.seen()).some(request => request.startsWith('PUT')))
    assert.equal(await text(reading, 'readable'), 'yes')
    await assert.rejects(reading.put('x', []), hasCode('STORAGE_REFUSED'))
    await s3.faults.clear()
  })

  test('a full store, a wrong region and a wrong clock each have their own words', async () => {
    const { s3, storage } = await setUp()
    const cases: Array<[status: number, code: string, row: string, says: RegExp]> = [
      [507, 'XMinioStorageFull', 'STORAGE_FULL', /no room/],
      [403, 'QuotaExceeded', 'STORAGE_FULL', /no room/],
      [301, 'PermanentRedirect', 'STORAGE_REFUSED', /another region/],
      [403, 'RequestTimeTooSkewed', 'STORAGE_REFUSED', /clock/],
      [403, 'AccessDenied', 'STORAGE_REFUSED', /may not do that/],
      [400, 'SomethingNew', 'STORAGE_REFUSED', /answers 400 SomethingNew/],
    ]
    for (const [status, code, row, says] of cases) {
      await s3.faults.inject({ kind: 'error', status, code })
      await assert.rejects(storage.put('refused', bytes('x')), error => {
        assert(hasCode(row)(error), `${code}: ${error}`)
        assert.match(String(error), says)
        return true
      })
    }
  })

  test('a body that changed on its way is not stored', async () => {
    const { s3, storage } = await setUp()
    // The proxy compares what came with the hash that was signed; here it says that it differed.
    await s3.faults.inject({ kind: 'error', status: 400, code: 'XAmzContentSHA256Mismatch', times: 2 })
    await storage.put('hashed', bytes('as it was sent'))
    assert.equal((await s3.faults.seen()).length, 3)
  })

  test('nothing that answers S3 is not taken for an empty store', async t => {
    const page = http.createServer((_, response) => response.end('<html>Welcome</html>'))
    await new Promise<void>(resolve => page.listen(0, '127.0.0.1', resolve))
    t.after(() => page.close())
    const { port } = page.address() as { port: number }
    const s3 = { ...(await server).options, endpoint: `http://127.0.0.1:${port}` }
    await assert.rejects(
      openStorage({ url: 's3://some-bucket', s3, log: silentLog }),
      hasCode('STORAGE_REFUSED'),
    )
  })

  test('a store that is not there is named', async () => {
    const s3 = { ...(await server).options, endpoint: 'http://127.0.0.1:9' }
    await assert.rejects(openStorage({ url: 's3://some-bucket', s3, log: silentLog }), error => {
      assert(hasCode('STORAGE_UNAVAILABLE')(error))
      assert.match(String(error), /127\.0\.0\.1:9.*ECONNREFUSED/)
      return true
    })
  })

  test('neither errors nor logs hold the secret or a signature', async () => {
    const s3 = await server
    await s3.faults.clear()
    const lines: string[] = []
    const log = createLog({
      role: 'test',
      level: 'trace',
      destination: { write: line => void lines.push(line) },
    })
    const keys = { accessKeyId: 'AKIDSHOWNOWHERE', secretAccessKey: 'SECRETSHOWNOWHERE' }
    const patient = { ...s3.options, ...keys }
    const failures = [
      await openStorage({ url: s3.url, s3: patient, log }).catch(error => error),
      await openStorage({
        url: 's3://some-bucket',
        s3: { ...patient, endpoint: 'http://127.0.0.1:9' },
        log,
      }).catch(error => error),
    ]
    const everything = [
      ...lines,
      ...failures.map(error => inspect(error, { depth: 20, showHidden: true })),
    ].join()
    assert.match(everything, /request repeated/)
    assert.doesNotMatch(everything, /SHOWNOWHERE|Signature=/)
  })
})

describe('a store that does not keep conditions', () => {
  for (const conditions of ['ignored', 'unknown'] as const) {
    test(`is found out when they are ${conditions}, warned of once, and used by looking first`, async t => {
      const s3 = await startS3(t, { conditions })
      const lines: string[] = []
      const log = createLog({
        role: 'test',
        level: 'warn',
        destination: { write: line => void lines.push(line) },
      })
      const storage = await openStorage({ url: s3.url, s3: s3.options, log })
      const again = await openStorage({ url: s3.url, s3: s3.options, log })
      assert.deepEqual([storage.conditional, again.conditional], [false, false])
      assert.equal(lines.length, 1)
      assert.match(lines[0] as string, /only one machine/)
      assert.equal(await storage.putNew('a', bytes('first')), true)
      assert.equal(await storage.putNew('a', bytes('second')), false)
      assert.equal(await text(storage, 'a'), 'first')
      assert.deepEqual(await keysOf(storage, ''), ['a'])
    })
  }

  test('one that keeps them is asked once per process and leaves nothing of the probe', async t => {
    const s3 = await startS3(t)
    const storage = await openStorage({ url: s3.url, s3: s3.options, log: silentLog })
    assert.equal(storage.conditional, true)
    assert.deepEqual(await keysOf(storage, ''), [])
    await s3.faults.seen()
    await openStorage({ url: s3.url, s3: s3.options, log: silentLog })
    assert.deepEqual(await s3.faults.seen(), [])
  })
})
