import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { manualClock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { createMetrics } from '#lib/metrics.ts'
import { databaseError } from '#postgres/client/errors.ts'
import { identityMetrics } from './metrics.ts'
import { type SessionNotices, Sessions } from './sessions.ts'
import { hashToken, newPlayerToken } from './tokens.ts'

const token = newPlayerToken()
const row = { player_id: 7n, account_id: 9n, kind: 'demo', address: null, expires_in_ms: 3_600_000 }
const player = { playerId: 7n, accountId: 9n, kind: 'demo' }

type Answer = (rows: unknown[] | Error) => void
let clock = manualClock()
let notices: SessionNotices
let asked: Answer[] = []
let sessions: Sessions

// The database's answers are given by hand, so that a test decides what happens while one is on its way.
beforeEach(() => {
  clock = manualClock()
  asked = []
  sessions = newSessions({ sessionCacheSeconds: 30, sessionCacheEntries: 100 })
  sessions.start()
  notices.hearing()
})

function newSessions(config: { sessionCacheSeconds: number; sessionCacheEntries: number }): Sessions {
  const query = <T>() =>
    new Promise<T[]>((resolve, reject) => {
      asked.push(given => (given instanceof Error ? reject(given) : resolve(given as T[])))
    })
  const listener = {
    start: (given: SessionNotices) => {
      notices = given
    },
    close: async () => {},
  }
  const metrics = identityMetrics(createMetrics())
  return new Sessions({ database: { query }, listener, config, metrics, clock })
}

async function verified(): Promise<void> {
  const found = sessions.authenticate(token)
  asked.at(-1)?.([row])
  assert.deepEqual(await found, player)
}

test('a verified session is believed for 30 s and then asked for again', async () => {
  assert.equal(sessions.peek(token), undefined)
  await verified()
  clock.advance(29_999)
  assert.deepEqual(sessions.peek(token), player)
  assert.deepEqual(await sessions.authenticate(token), player)
  assert.equal(asked.length, 1)
  clock.advance(1)
  assert.equal(sessions.peek(token), undefined)
})

test('a session is not believed past its own end, counted from before the question', async () => {
  const found = sessions.find(token)
  clock.advance(400)
  asked[0]?.([{ ...row, expires_in_ms: 1000 }])
  assert.equal((await found)?.expiresAt.toISOString(), '2026-01-01T00:00:01.400Z')
  clock.advance(599)
  assert.deepEqual(sessions.peek(token), player)
  clock.advance(1)
  assert.equal(sessions.peek(token), undefined)
})

test('requests with one token share one question', async () => {
  const both = [sessions.authenticate(token), sessions.authenticate(token)]
  assert.equal(asked.length, 1)
  asked[0]?.([row])
  assert.deepEqual(await Promise.all(both), [player, player])
})

test('an unknown token is nobody and is asked for each time', async () => {
  for (const count of [1, 2]) {
    const found = sessions.authenticate(token)
    assert.equal(asked.length, count)
    asked.at(-1)?.([])
    assert.equal(await found, undefined)
  }
})

test('text that is no player token never reaches the database', async () => {
  for (const text of ['', 'myp_short', `myo_${'a'.repeat(56)}`, `${token}x`, '\u0000']) {
    assert.equal(await sessions.authenticate(text), undefined)
    assert.equal(sessions.peek(text), undefined)
    assert.equal(await sessions.end(text), false)
  }
  assert.equal(asked.length, 0)
})

test('a database that is away is a failure, not "nobody", and the next request asks again', async () => {
  const found = sessions.authenticate(token)
  asked[0]?.(databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }))
  await assert.rejects(found, error => error instanceof Failure && error.row.status === 503)
  await verified()
})

test('a pushed revocation ends a believed session at once', async () => {
  await verified()
  notices.ended(hashToken(token))
  assert.equal(sessions.peek(token), undefined)
})

test('an answer from before a revocation is neither believed later nor shared with later requests', async () => {
  const early = sessions.authenticate(token)
  notices.ended(hashToken(token))
  const late = sessions.authenticate(token)
  assert.equal(asked.length, 2)
  asked[0]?.([row])
  asked[1]?.([])
  assert.deepEqual(await early, player)
  assert.equal(await late, undefined)
  assert.equal(sessions.peek(token), undefined)
})

test('while revocations are not heard nothing is believed', async () => {
  await verified()
  notices.deaf()
  assert.equal(sessions.peek(token), undefined)
  await verified()
  assert.equal(sessions.peek(token), undefined)
  notices.hearing()
  await verified()
  assert.deepEqual(sessions.peek(token), player)
})

test('an answer that was asked for while deaf is not believed after hearing came back', async () => {
  notices.deaf()
  const found = sessions.authenticate(token)
  notices.hearing()
  asked[0]?.([row])
  await found
  assert.equal(sessions.peek(token), undefined)
})

test('a notice that names no session empties the cache', async () => {
  await verified()
  notices.ended('all')
  assert.equal(sessions.peek(token), undefined)
})

test('signing out ends the session here without waiting for the notice', async () => {
  await verified()
  const ended = sessions.end(token)
  asked[1]?.([{ ended: true }])
  assert.equal(await ended, true)
  assert.equal(sessions.peek(token), undefined)
})

test('a cache of 0 s believes nothing', async () => {
  sessions = newSessions({ sessionCacheSeconds: 0, sessionCacheEntries: 100 })
  sessions.start()
  notices.hearing()
  await verified()
  assert.equal(sessions.peek(token), undefined)
})

test('a flood of unknown tokens is refused before it queues without end', async () => {
  const flood = Array.from({ length: 1000 }, () => sessions.authenticate(newPlayerToken()))
  await assert.rejects(sessions.authenticate(token), (error: Failure) => error.code === 'IDENTITY_BUSY')
  for (const answer of asked) answer([])
  await Promise.all(flood)
  await verified()
})
