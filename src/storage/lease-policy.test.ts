import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { manualClock } from '#lib/clock.ts'
import {
  decideAcquire,
  decideKeep,
  epochName,
  isLive,
  type LeaseRecord,
  parseEpoch,
  parseRecord,
} from './lease-policy.ts'

const ttlMs = 30_000
const start = '2026-11-24T10:00:00.000Z'

function recordAt(clock: { now(): Date }, change: Partial<LeaseRecord> = {}): LeaseRecord {
  const at = clock.now().toISOString()
  return { holder: 'host 7 backup', token: 't', since: at, renewedAt: at, ttlMs, ...change }
}

describe('taking a lease', () => {
  const decide = (
    clock: { now(): Date },
    record: LeaseRecord | undefined,
    { unchangedForMs = 0, epoch = 5 } = {},
  ) => decideAcquire({ newest: { epoch, record, unchangedForMs }, now: clock.now(), ttlMs })

  test('the first one begins at epoch 1', () => {
    assert.deepEqual(decideAcquire({ newest: undefined, now: new Date(start), ttlMs }), {
      kind: 'take',
      epoch: 1,
    })
  })

  test('a released epoch is followed at once', () => {
    const clock = manualClock(start)
    assert.deepEqual(decide(clock, recordAt(clock, { released: true })), { kind: 'take', epoch: 6 })
  })

  test('a living holder is waited for, and named', () => {
    const clock = manualClock(start)
    const record = recordAt(clock)
    clock.advance(10_000)
    assert.deepEqual(decide(clock, record), {
      kind: 'wait',
      holder: 'host 7 backup',
      since: start,
      expiresInMs: ttlMs + ttlMs / 2 - 10_000,
    })
  })

  test('by the wall clock a dead holder is passed over after its ttl and a margin for wrong clocks', () => {
    const clock = manualClock(start)
    const record = recordAt(clock)
    clock.advance(ttlMs * 1.5)
    assert.equal(decide(clock, record).kind, 'wait')
    clock.advance(1)
    assert.deepEqual(decide(clock, record), { kind: 'take', epoch: 6 })
  })

  test('the ttl that counts is the holder’s own', () => {
    const clock = manualClock(start)
    const record = recordAt(clock, { ttlMs: 10 * ttlMs })
    clock.advance(5 * ttlMs)
    assert.equal(decide(clock, record).kind, 'wait')
  })

  test('a holder whose clock is far ahead is passed over once it was watched for a ttl', () => {
    const clock = manualClock(start)
    const record = recordAt(clock, { renewedAt: '2036-01-01T00:00:00.000Z' })
    assert.deepEqual(
      [
        decide(clock, record, { unchangedForMs: ttlMs - 1 }).kind,
        decide(clock, record, { unchangedForMs: ttlMs }).kind,
      ],
      ['wait', 'take'],
    )
    const waiting = decide(clock, record, { unchangedForMs: 20_000 })
    assert(waiting.kind === 'wait')
    assert.equal(waiting.expiresInMs, 10_000)
  })

  test('an epoch that cannot be read is held by somebody until it was watched for a ttl', () => {
    const clock = manualClock(start)
    assert.equal(decide(clock, undefined).kind, 'wait')
    assert.equal(decide(clock, undefined, { unchangedForMs: ttlMs }).kind, 'take')
  })
})

describe('keeping a lease', () => {
  const keep = (change: Partial<Parameters<typeof decideKeep>[0]>) =>
    decideKeep({ epoch: 5, ttlMs, newestEpoch: 5, renewedAtMs: 1_000, nowMs: 2_000, ...change })

  test('the newest epoch within its time is ours', () => {
    assert.deepEqual(keep({}), { kind: 'held', expiresInMs: ttlMs - 1_000 })
    assert.deepEqual(keep({ newestEpoch: undefined }), { kind: 'held', expiresInMs: ttlMs - 1_000 })
  })

  test('it is lost at the end of its time, even when nobody has taken it', () => {
    assert.equal(keep({ nowMs: 1_000 + ttlMs - 1 }).kind, 'held')
    assert.deepEqual(keep({ nowMs: 1_000 + ttlMs }), { kind: 'lost', reason: 'expired' })
  })

  test('it is lost to any other epoch, and when its own object is gone', () => {
    assert.deepEqual(keep({ newestEpoch: 6 }), { kind: 'lost', reason: 'superseded' })
    assert.deepEqual(keep({ newestEpoch: 0 }), { kind: 'lost', reason: 'superseded' })
  })

  test('where the store decides nothing it is lost to another token', () => {
    assert.equal(keep({ token: { ours: 'a', found: 'a' } }).kind, 'held')
    for (const found of ['b', undefined])
      assert.deepEqual(keep({ token: { ours: 'a', found } }), { kind: 'lost', reason: 'overwritten' })
  })

  test('a holder by its own clock ends before anybody passes it over by theirs', () => {
    const clock = manualClock(start)
    const record = recordAt(clock)
    for (let passedMs = 0; passedMs <= 2 * ttlMs; passedMs += 500) {
      const taken = decideAcquire({
        newest: { epoch: 5, record, unchangedForMs: passedMs },
        now: clock.now(),
        ttlMs,
      })
      const kept = keep({ newestEpoch: undefined, renewedAtMs: 0, nowMs: passedMs })
      assert(!(taken.kind === 'take' && kept.kind === 'held'), `both at ${passedMs} ms`)
      clock.advance(500)
    }
  })
})

describe('what a lease stores', () => {
  test('epochs are names that sort, and other names are no epochs', () => {
    assert.equal(epochName(42), '000000000042')
    assert.equal(parseEpoch('000000000042'), 42)
    for (const name of ['42', '00000000004x', '0000000000420', '']) assert.equal(parseEpoch(name), undefined)
  })

  test('a record is read again, and what is none is told', () => {
    const record = recordAt(manualClock(start), { released: true })
    assert.deepEqual(parseRecord(JSON.stringify(record)), record)
    const broken = ['', 'null', '[]', '{}', '"x"', JSON.stringify({ ...record, ttlMs: '30' })]
    broken.push(JSON.stringify({ ...record, renewedAt: 'yesterday' }), JSON.stringify(record).slice(0, -4))
    for (const text of broken) assert.equal(parseRecord(text), undefined, text)
  })

  test('a reader counts as there for its ttl and a margin', () => {
    const clock = manualClock(start)
    const record = recordAt(clock)
    clock.advance(ttlMs * 1.5)
    assert.equal(isLive(record, clock.now()), true)
    clock.advance(1)
    assert.equal(isLive(record, clock.now()), false)
  })
})
