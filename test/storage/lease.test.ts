import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { systemClock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { acquireLease, type Lease, type LeaseOptions } from '#storage/lease.ts'
import { openStorage } from '#storage/open.ts'
import { announceReader, liveReaders } from '#storage/readers.ts'
import type { Storage } from '#storage/storage.ts'
import { hasCode, keysOf } from '#test/storage/contract.ts'
import { type FaultyStorage, failAfter, failOn, faulty } from '#test/storage/faulty.ts'
import { until } from '#test/until.ts'

const prefix = 'locks/backup/'
const long = 60_000
// Long enough for a busy machine to renew three times in it.
const short = 1_500

async function newStorage(t: TestContext): Promise<FaultyStorage> {
  const root = mkdtempSync(join(tmpdir(), 'my-lease-'))
  t.after(() => rmSync(root, { recursive: true, force: true, maxRetries: 5 }))
  return faulty(await openStorage({ url: pathToFileURL(root).href, log: silentLog }))
}

async function acquire(t: TestContext, storage: Storage, o: Partial<LeaseOptions> = {}): Promise<Lease> {
  const common = { prefix, holder: 'me', ttlMs: long, clock: systemClock, log: silentLog }
  const lease = await acquireLease({ ...common, storage, ...o })
  t.after(() => lease.release())
  return lease
}

const read = async (storage: Storage, epoch: string) =>
  JSON.parse((await storage.get(`${prefix}${epoch}`)).toString())

describe('a lease', () => {
  test('has one holder, who is named to all others', async t => {
    const storage = await newStorage(t)
    const lease = await acquire(t, storage, { holder: 'host-a 42 backup full' })
    assert.deepEqual([lease.name, lease.epoch, lease.lost.aborted], [prefix, 1, false])
    await lease.check()
    await assert.rejects(acquire(t, storage), error => {
      assert(error instanceof Failure && error.code === 'LEASE_HELD')
      assert.equal(error.row.exit, 3)
      assert.equal(error.facts.holder, 'host-a 42 backup full')
      assert.match(error.message, /^locks\/backup\/ is held by host-a 42 backup full since 20/)
      const seconds = Number(error.facts.expiresInSeconds)
      assert(seconds > 80 && seconds <= 90, String(seconds))
      return true
    })
  })

  test('that was released is taken at once, by a higher epoch, and the oldest epochs go', async t => {
    const storage = await newStorage(t)
    for (let epoch = 1; epoch <= 6; epoch++) {
      const lease = await acquire(t, storage)
      assert.equal(lease.epoch, epoch)
      await lease.release()
      await lease.release()
      await assert.rejects(lease.check(), hasCode('LEASE_LOST'))
    }
    const kept = ['000000000004', '000000000005', '000000000006']
    assert.deepEqual(
      await keysOf(storage, prefix),
      kept.map(epoch => prefix + epoch),
    )
  })

  test('is waited for', async t => {
    const storage = await newStorage(t)
    const first = await acquire(t, storage)
    const second = acquire(t, storage, { waitMs: long, ttlMs: 2_000 })
    const looks = storage.calls.length
    await until(() => storage.calls.length > looks + 2)
    await first.release()
    assert.equal((await second).epoch, 2)
  })

  test('is no longer waited for when the waiter is cancelled', async t => {
    const storage = await newStorage(t)
    await acquire(t, storage)
    const cancel = new AbortController()
    const waiting = acquire(t, storage, { waitMs: long, signal: cancel.signal })
    cancel.abort(new Error('enough'))
    await assert.rejects(waiting, /enough/)
  })

  test('is renewed for as long as it is held', async t => {
    const storage = await newStorage(t)
    const lease = await acquire(t, storage, { ttlMs: short })
    const { renewedAt, since, token } = await read(storage, '000000000001')
    await until(async () => (await read(storage, '000000000001')).renewedAt > renewedAt)
    const now = await read(storage, '000000000001')
    assert.deepEqual([now.since, now.token], [since, token])
    await lease.check()
  })

  test('of a holder that died is taken when it was watched for a ttl', async t => {
    const storage = await newStorage(t)
    const dead = { holder: 'dead', token: 'x', since: '2026-01-01T00:00:00Z', ttlMs: 500 }
    // By its clock it has years.
    const record = { ...dead, renewedAt: '2090-01-01T00:00:00Z' }
    await storage.putNew(`${prefix}000000000007`, [Buffer.from(JSON.stringify(record))])
    const lease = await acquire(t, storage, { waitMs: 10_000 })
    assert.equal(lease.epoch, 8)
  })

  test('is lost when renewals fail for a whole ttl, and says so by its signal', async t => {
    const storage = await newStorage(t)
    const lease = await acquire(t, storage, { ttlMs: short })
    storage.plan = failOn({ operation: 'put' })
    await once(lease.lost, 'abort')
    assert(hasCode('LEASE_LOST')(lease.lost.reason))
    await assert.rejects(lease.check(), /could not be renewed in time/)
    storage.plan = () => undefined
    await assert.rejects(lease.check(), hasCode('LEASE_LOST'))
  })

  test('is lost when the storage stands still for a whole ttl', async t => {
    const storage = await newStorage(t)
    const lease = await acquire(t, storage, { ttlMs: short })
    storage.plan = () => ({ kind: 'stall' })
    await once(lease.lost, 'abort')
    storage.plan = () => undefined
    storage.release()
    await assert.rejects(lease.check(), hasCode('LEASE_LOST'))
  })

  test('survives single renewals that fail', async t => {
    const storage = await newStorage(t)
    const lease = await acquire(t, storage, { ttlMs: short })
    const { renewedAt } = await read(storage, '000000000001')
    storage.plan = failOn({ operation: 'put', times: 1 })
    await until(async () => (await read(storage, '000000000001')).renewedAt > renewedAt)
    await lease.check()
  })

  test('of a sleeper that was passed over cannot commit, whatever its clock says', async t => {
    const storage = await newStorage(t)
    const sleeper = await acquire(t, storage)
    await storage.putNew(`${prefix}000000000002`, [Buffer.from('{}')])
    await assert.rejects(sleeper.check(), error => {
      assert(hasCode('LEASE_LOST')(error))
      assert.match(String(error), /another one took it over/)
      return true
    })
    assert.equal(sleeper.lost.aborted, true)
    // Its release must not touch what is another one's.
    await sleeper.release()
    assert.equal((await storage.get(`${prefix}000000000002`)).toString(), '{}')
  })

  test('a newer epoch is noticed by the next renewal too', async t => {
    const storage = await newStorage(t)
    const sleeper = await acquire(t, storage, { ttlMs: short })
    await storage.putNew(`${prefix}000000000002`, [Buffer.from('{}')])
    await once(sleeper.lost, 'abort')
    assert.match(String(sleeper.lost.reason), /another one took it over/)
  })

  test('whose acquisition lost its answer is not held twice', async t => {
    const storage = await newStorage(t)
    storage.plan = failOn({ operation: 'putNew', mishap: { kind: 'lost' }, times: 1 })
    await assert.rejects(acquire(t, storage), hasCode('STORAGE_UNAVAILABLE'))
    await assert.rejects(acquire(t, storage), hasCode('LEASE_HELD'))
  })

  test('that cannot be released ends by itself, and the release does not fail', async t => {
    const storage = await newStorage(t)
    const lease = await acquire(t, storage)
    storage.plan = failAfter(0)
    await lease.release()
  })

  test('of several in one process at once, one gets it', async t => {
    const storage = await newStorage(t)
    for (let round = 0; round < 10; round++) {
      const all = await Promise.allSettled(Array.from({ length: 8 }, () => acquire(t, storage)))
      const held = all.filter(one => one.status === 'fulfilled')
      assert.equal(held.length, 1)
      await held[0]?.value.release()
    }
  })
})

describe('a lease where the store decides nothing', () => {
  /** Both looked before either wrote: the worst that head-then-put can do. */
  const careless = (storage: Storage): Storage => ({
    ...faulty(storage),
    conditional: false,
    putNew: async (key, data) => {
      await storage.put(key, data)
      return true
    },
  })

  test('one of two that wrote the same epoch finds its token there', async t => {
    const storage = careless(await newStorage(t))
    const both = await Promise.allSettled([acquire(t, storage), acquire(t, storage)])
    const held = both.filter(one => one.status === 'fulfilled')
    assert.equal(held.length, 1)
    await held[0]?.value.check()
  })

  test('a holder whose epoch was overwritten cannot commit', async t => {
    const storage = careless(await newStorage(t))
    const lease = await acquire(t, storage, { ttlMs: 10_000 })
    const record = await read(storage, '000000000001')
    await storage.put(`${prefix}000000000001`, [Buffer.from(JSON.stringify({ ...record, token: 'other' }))])
    await assert.rejects(lease.check(), /another one wrote over it/)
  })
})

describe('readers', () => {
  const reader = (storage: Storage, id: string, ttlMs = long) =>
    announceReader({
      storage,
      key: `readers/${id}`,
      holder: `restore ${id}`,
      ttlMs,
      clock: systemClock,
      log: silentLog,
    })

  test('are there from their word to their end', async t => {
    const storage = await newStorage(t)
    assert.deepEqual(await liveReaders(storage, 'readers/', systemClock), [])
    const [one, two] = [await reader(storage, '1'), await reader(storage, '2')]
    const there = await liveReaders(storage, 'readers/', systemClock)
    assert.deepEqual(
      there.map(({ key, holder }) => [key, holder]),
      [
        ['readers/1', 'restore 1'],
        ['readers/2', 'restore 2'],
      ],
    )
    await one.close()
    assert.deepEqual(
      (await liveReaders(storage, 'readers/', systemClock)).map(({ key }) => key),
      ['readers/2'],
    )
    await two.close()
    assert.deepEqual(await keysOf(storage, 'readers/'), [])
  })

  test('renew their word, and the word of a dead one ends', async t => {
    const storage = await newStorage(t)
    const living = await reader(storage, 'living', 300)
    t.after(() => living.close())
    const old = {
      holder: 'x',
      token: 'x',
      since: '2026-01-01T00:00:00Z',
      renewedAt: '2026-01-01T00:00:00Z',
      ttlMs: 300,
    }
    await storage.put('readers/dead', [Buffer.from(JSON.stringify(old))])
    const puts = () => storage.calls.filter(({ operation }) => operation === 'put').length
    const before = puts()
    await until(() => puts() > before + 3)
    assert.deepEqual(
      (await liveReaders(storage, 'readers/', systemClock)).map(({ key }) => key),
      ['readers/living'],
    )
  })

  test('that cannot be understood count as there', async t => {
    const storage = await newStorage(t)
    await storage.put('readers/strange', [Buffer.from('what?')])
    assert.equal((await liveReaders(storage, 'readers/', systemClock)).length, 1)
  })

  test('of a store that may not be written read unannounced; one that is away is not read', async t => {
    const storage = await newStorage(t)
    storage.plan = failOn({ operation: 'put', mishap: { kind: 'error', code: 'STORAGE_REFUSED' } })
    const unannounced = await reader(storage, '1')
    await unannounced.close()
    storage.plan = failOn({ operation: 'put' })
    await assert.rejects(reader(storage, '2'), hasCode('STORAGE_UNAVAILABLE'))
  })
})
