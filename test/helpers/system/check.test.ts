import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hashServerSeed } from '#game/draw.ts'
import { verify } from '#game/verify.ts'
import { check, demoGrant, type Violation, violationKinds } from './check.ts'
import { type Call, History, type Outcome } from './history.ts'
import type { Books, SeenRound } from './player.ts'

/** A server of one player that does everything right; a test then breaks one thing. */
class HonestServer {
  readonly history = new History()
  readonly books: Books
  readonly #told = new Map<string, string>()
  #balance = demoGrant
  #timeMs = 0
  #roundId = 100
  #pairs = ['1', '2', '3', '4'].map(digit => digit.padStart(64, '0'))
  #pair = 0
  #clientSeed = 'moonyetis'
  #nonce = 0

  constructor() {
    this.books = { client: 'a', rounds: [], balance: '', seeds: this.#seeds() }
    this.spin('k1')
    this.spin('k2', 'unknown')
    this.again('k2')
    this.again('k1')
    this.rotate('r1', 'mine')
    this.spin('k3')
    this.spin('k4')
    this.rotate('r2', 'other')
    this.spin('k5')
  }

  spin(key: string, told: 'ok' | 'unknown' = 'ok'): void {
    const payload = { stakePerLine: '10', lines: 10 }
    const serverSeed = this.#pairs[this.#pair] as string
    const draw = { serverSeed, clientSeed: this.#clientSeed, nonce: this.#nonce++ }
    const { hmac: _, version: __, ...drawn } = verify({ ...draw, stakePerLine: 10, lines: 10 })
    this.#balance += BigInt(drawn.payout) - BigInt(drawn.stake)
    const told_ = { id: String(++this.#roundId), nonce: draw.nonce, clientSeed: this.#clientSeed, ...drawn }
    const balance = String(this.#balance)
    this.books.rounds.unshift({ ...told_, ...payload, balanceAfter: balance } as SeenRound)
    this.#told.set(key, JSON.stringify({ round: told_, balance }))
    this.#call('spin', key, payload, told === 'ok' ? this.ok(key) : { kind: 'unknown', cause: 'ECONNRESET' })
  }

  again(key: string): void {
    const { op, payload } = this.history.calls.find(call => call.key === key) as Call
    this.#call(op, key, payload, { ...this.ok(key), replayed: key !== 'k2' })
  }

  rotate(key: string, clientSeed: string): void {
    const serverSeed = this.#pairs[this.#pair] as string
    const revealed = {
      serverSeed,
      serverSeedHash: hashServerSeed(serverSeed),
      clientSeed: this.#clientSeed,
      lastNonce: this.#nonce === 0 ? null : this.#nonce - 1,
    }
    this.#pair++
    this.#clientSeed = clientSeed
    this.#nonce = 0
    this.#told.set(key, JSON.stringify({ revealed, current: this.#seeds() }))
    this.#call('rotate', key, { clientSeed }, this.ok(key))
  }

  ok(key: string): Extract<Outcome, { kind: 'ok' }> {
    return { kind: 'ok', status: 200, body: this.#told.get(key) as string, replayed: false }
  }

  call(key: string): Call {
    return this.history.calls.findLast(call => call.key === key) as Call
  }

  round(key: string): SeenRound {
    const { round } = JSON.parse(this.#told.get(key) as string)
    return this.books.rounds.find(({ id }) => id === round.id) as SeenRound
  }

  #call(op: Call['op'], key: string, payload: Call['payload'], outcome: Outcome): void {
    const invokedAtMs = ++this.#timeMs
    this.history.calls.push({
      client: 'a',
      op,
      key,
      payload,
      invokedAtMs,
      completedAtMs: ++this.#timeMs,
      outcome,
    })
    this.books.balance = String(this.#balance)
    this.books.seeds = this.#seeds()
  }

  #seeds(): Books['seeds'] {
    const hash = (pair: number) => hashServerSeed(this.#pairs[pair] as string)
    return {
      serverSeedHash: hash(this.#pair),
      nextServerSeedHash: hash(this.#pair + 1),
      clientSeed: this.#clientSeed,
      nonce: this.#nonce,
    }
  }
}

/** Rewrites the body of an answer. */
function retell(call: Call, change: (body: never) => void): void {
  if (call.outcome.kind !== 'ok') throw new Error('nothing was told')
  const body = JSON.parse(call.outcome.body)
  change(body as never)
  call.outcome = { ...call.outcome, body: JSON.stringify(body) }
}

const shown = new Set<string>()

function finds(name: string, kind: Violation['kind'], breakIt: (server: HonestServer) => void): void {
  test(`the checker sees ${name} (${kind})`, () => {
    const server = new HonestServer()
    breakIt(server)
    const kinds = check(server.history, [server.books]).map(violation => violation.kind)
    assert.ok(kinds.includes(kind), `found ${kinds.join(', ') || 'nothing'}`)
    shown.add(kind)
  })
}

test('the checker finds nothing wrong with an honest server', () => {
  const server = new HonestServer()
  assert.equal(server.books.rounds.length, 5)
  assert.deepEqual(check(server.history, [server.books]), [])
})

test('the checker lets honest refusals pass', () => {
  const server = new HonestServer()
  const dear = { stakePerLine: '1000000', lines: 10 }
  const base = { client: 'a', op: 'spin', invokedAtMs: 90, completedAtMs: 91 } as const
  const refused = (status: number, code: string) => ({ kind: 'refused', status, code }) as const
  server.history.calls.push(
    { ...base, key: 'k9', payload: dear, outcome: refused(402, 'INSUFFICIENT_BALANCE') },
    { ...base, key: 'k1', payload: dear, outcome: refused(422, 'IDEMPOTENCY_KEY_REUSED') },
  )
  assert.deepEqual(check(server.history, [server.books]), [])
})

finds('a spin whose outcome nobody asked for again', 'UNRESOLVED', server => server.spin('k9', 'unknown'))
finds('an unknown that was only asked before it happened', 'UNRESOLVED', server => {
  server.call('k2').invokedAtMs = 0
})
finds('a lost spin', 'LOST_SPIN', server => {
  server.books.rounds = server.books.rounds.filter(round => round !== server.round('k3'))
})
finds('a round listed twice', 'DOUBLE_SPIN', server => server.books.rounds.push(server.round('k3')))
finds('one round that answers two keys', 'DOUBLE_SPIN', server => {
  server.call('k4').outcome = server.ok('k3')
})
finds('a spin that was drawn twice for one key', 'ROUND_WITHOUT_KEY', server => {
  server.spin('k5')
  server.history.calls.pop()
})
finds('a round that differs from what was told', 'DIFFERENT_VALUES', server => {
  server.round('k3').payout = '77'
})
finds('a stake that nobody asked for', 'DIFFERENT_VALUES', server => {
  server.round('k3').lines = 9
})
finds('a balance after a round that differs from what was told', 'DIFFERENT_VALUES', server => {
  server.round('k3').balanceAfter = '1'
})
finds('a replay with one other byte', 'DIFFERENT_REPLAY', server => {
  server.again('k3')
  const call = server.call('k3')
  if (call.outcome.kind === 'ok') call.outcome = { ...call.outcome, body: `${call.outcome.body} ` }
})
finds('a repeat that does not say it is one', 'ANSWERED_TWICE', server => {
  server.again('k3')
  server.call('k3').outcome = server.ok('k3')
})
finds('a key that was taken with two payloads', 'KEY_TAKEN_TWICE', server => {
  server.again('k3')
  server.call('k3').payload = { stakePerLine: '20', lines: 10 }
})
finds('a session that was lost', 'WRONG_REFUSAL', server => {
  server.spin('k9', 'unknown')
  server.call('k9').outcome = { kind: 'refused', status: 401, code: 'UNAUTHENTICATED' }
})
finds('a repeat that is called another payload', 'WRONG_REFUSAL', server => {
  server.again('k3')
  server.call('k3').outcome = { kind: 'refused', status: 422, code: 'IDEMPOTENCY_KEY_REUSED' }
})
finds('a nonce that was left out', 'NONCE_GAP', server => {
  server.round('k4').nonce = 2
})
finds('a nonce that was used twice', 'NONCE_GAP', server => {
  server.round('k4').nonce = 0
})
finds('a round of a pair after its reveal', 'NONCE_GAP', server => {
  retell(server.call('r1'), (body: { revealed: { lastNonce: number } }) => {
    body.revealed.lastNonce = 0
  })
})
finds('a next nonce that does not follow', 'NONCE_GAP', server => {
  server.books.seeds.nonce = 5
})
finds('a break in the chain of balances', 'WRONG_BALANCE', server => {
  server.round('k3').balanceAfter = '123'
})
finds('a balance that the rounds do not give', 'WRONG_BALANCE', server => {
  server.books.balance = String(BigInt(server.books.balance) + 1n)
})
finds('a balance below zero', 'NEGATIVE_BALANCE', server => {
  server.round('k3').balanceAfter = '-1'
})
finds('a stake that was not there', 'NEGATIVE_BALANCE', server => {
  server.round('k3').stake = '2000000'
})
finds('a later spin that is an earlier round', 'OUT_OF_ORDER', server => {
  const [first, second] = [server.call('k3'), server.call('k4')]
  const times = [first.invokedAtMs, first.completedAtMs] as const
  Object.assign(first, { invokedAtMs: second.invokedAtMs, completedAtMs: second.completedAtMs })
  Object.assign(second, { invokedAtMs: times[0], completedAtMs: times[1] })
})
finds('a revealed seed that is not the promised one', 'BROKEN_PROMISE', server => {
  retell(server.call('r1'), (body: { revealed: { serverSeed: string } }) => {
    body.revealed.serverSeed = 'f'.repeat(64)
  })
})
finds('a pair that was not the promised next one', 'BROKEN_PROMISE', server => {
  retell(server.call('r1'), (body: { current: { nextServerSeedHash: string } }) => {
    body.current.nextServerSeedHash = 'f'.repeat(64)
  })
})
finds('a pair that was revealed twice', 'BROKEN_PROMISE', server => {
  server.call('r2').outcome = server.ok('r1')
})
finds('a rotation that was lost', 'BROKEN_PROMISE', server => {
  server.history.calls.splice(server.history.calls.indexOf(server.call('r2')), 1)
})
finds('a draw that the seeds do not give', 'WRONG_DRAW', server => {
  server.round('k3').stops = [0, 0, 0, 0, 0]
})

test('every kind of violation was shown', () => {
  assert.deepEqual([...shown].toSorted(), [...violationKinds].toSorted())
})
