import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Lsn } from '#lib/lsn.ts'
import { formatNames, parseNames } from './names.ts'
import {
  afterApply,
  afterProof,
  afterRecord,
  afterRestart,
  decide,
  firstState,
  namesAtStart,
  type Standby,
  type Step,
  type SynchronousRules,
  type SynchronousState,
} from './synchronous.ts'

/** Things that happen to an imagined PostgreSQL, its members and its supervisor, one after another. */
type Event =
  | { kind: 'commit' }
  | { kind: 'flush'; member: number }
  | { kind: 'connect'; member: number; connected: boolean }
  | { kind: 'look' }
  | { kind: 'act' }
  | { kind: 'reread' }
  | { kind: 'pass'; ms: number }
  | { kind: 'supervisor dies' }
  | { kind: 'server dies' }

const member = fc.integer({ min: 0, max: 1 })
/** A step that is decided is mostly taken; a process that dies in between takes it no more. */
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('commit' as const) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('flush' as const), member }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('connect' as const), member, connected: fc.boolean() }),
  },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('look' as const) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('act' as const) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('reread' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 15_000 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('supervisor dies' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('server dies' as const) }) },
)

interface Peer {
  connected: boolean
  flush: Lsn
}

/** Small enough to see through: WAL is a number, and a commit is acknowledged when the list in force lets it. */
class World {
  readonly rules: SynchronousRules
  ms = 0
  lsn: Lsn = 1n
  acknowledged: Lsn = 1n
  waiting: Lsn[] = []
  /** In the file; in the sessions; and what backends really wait for, which the checkpointer takes over later. */
  configured: string[]
  shown: string[]
  enforced: string[]
  recorded: string[] = []
  peers: Record<string, Peer>
  state: SynchronousState
  pending: Step | undefined
  steps: Step[] = []

  constructor(rules: SynchronousRules) {
    this.rules = rules
    this.peers = Object.fromEntries(rules.wanted.map(name => [name, { connected: true, flush: 1n }]))
    this.configured = namesAtStart(rules, [])
    this.shown = this.configured
    this.enforced = this.configured
    this.state = firstState([])
  }

  run(event: Event): void {
    const name = 'member' in event ? this.rules.wanted[event.member % this.rules.wanted.length] : undefined
    const peer = this.peers[name ?? '']
    if (event.kind === 'commit') this.waiting.push(++this.lsn)
    if (event.kind === 'flush' && peer?.connected) peer.flush = this.lsn
    if (event.kind === 'connect' && peer) peer.connected = event.connected
    if (event.kind === 'pass') this.ms += event.ms
    if (event.kind === 'reread') this.enforced = this.shown
    if (event.kind === 'look') this.look()
    if (event.kind === 'act') this.act()
    if (event.kind === 'supervisor dies') this.restartSupervisor()
    if (event.kind === 'server dies') this.restartServer()
    this.release()
    this.check()
  }

  look(): void {
    const decision = decide(
      this.rules,
      {
        names: this.shown,
        lsn: this.lsn,
        waiting: this.waiting.length,
        standbys: this.standbys(),
      },
      this.state,
      { ms: this.ms, at: new Date(this.ms) },
    )
    this.state = decision.state
    this.pending = decision.step
  }

  /** A process that dies between a look and its step is an event order without `act`. */
  act(): void {
    const step = this.pending
    this.pending = undefined
    if (!step) return
    this.steps.push(step)
    if (step.kind === 'record') {
      this.recorded = [...step.members]
      this.state = afterRecord(this.state, step.members)
    } else if (step.kind === 'apply') {
      this.configured = [...step.names]
      this.shown = this.configured
      this.state = afterApply(this.state, step, { ms: this.ms, at: new Date(this.ms) })
    } else if (this.enforced === this.shown) this.state = afterProof(this.state, this.lsn)
  }

  restartSupervisor(): void {
    this.state = firstState(this.recorded)
    this.pending = undefined
  }

  /** The configuration is written anew from what supervise knows: its own list, or at its start the record. */
  restartServer(): void {
    this.configured = [...(this.state.applied ?? namesAtStart(this.rules, this.recorded))]
    this.shown = this.configured
    this.enforced = this.configured
    this.waiting = []
    this.state = afterRestart(this.state)
    this.pending = undefined
  }

  release(): void {
    const peers = this.enforced.map(name => this.peers[name] as Peer)
    const isLate = (lsn: Lsn) => peers.some(peer => peer.flush < lsn)
    for (const lsn of this.waiting) if (!isLate(lsn) && lsn > this.acknowledged) this.acknowledged = lsn
    this.waiting = this.waiting.filter(isLate)
  }

  check(): void {
    for (const name of this.recorded) {
      const { flush } = this.peers[name] as Peer
      assert.ok(flush >= this.acknowledged, `${name} is recorded and lacks what was acknowledged`)
      assert.ok(this.shown.includes(name), `${name} is recorded and not in force`)
    }
    const text = formatNames(this.shown)
    assert.deepEqual(parseNames(text), this.shown)
    assert.ok(!text.includes('ANY'))
    if (this.rules.mode === 'max-protection') {
      assert.deepEqual(this.shown, this.rules.wanted)
      assert.ok(
        !this.steps.some((step, i) => step.kind === 'record' && step.members.length < before(this.steps, i)),
      )
    }
  }

  standbys(): Standby[] {
    return Object.entries(this.peers)
      .filter(([, peer]) => peer.connected)
      .map(([name, peer]) => {
        const priority = this.shown.indexOf(name) + 1
        const syncState = priority > 0 ? 'sync' : 'async'
        return { name, state: 'streaming', syncState, priority, flushLsn: peer.flush }
      })
  }
}

function before(steps: readonly Step[], index: number): number {
  const last = steps.slice(0, index).findLast(step => step.kind === 'record')
  return last?.kind === 'record' ? last.members.length : 0
}

const rules = fc.record({
  mode: fc.constantFrom('max-protection' as const, 'max-availability' as const),
  wanted: fc.constantFrom(['archive'], ['node_b', 'archive'], ['node_b']),
  timeoutMs: fc.constant(10_000),
})

test('a recorded member has every acknowledged commit, whoever dies between any two steps', () => {
  let entered = 0
  let left = 0
  fc.assert(
    fc.property(rules, fc.array(event, { minLength: 150, maxLength: 400 }), (given, events) => {
      const world = new World(given)
      for (const one of events) world.run(one)
      entered += world.steps.filter(step => step.kind === 'record' && step.members.length > 0).length
      left += world.steps.filter(step => step.kind === 'record' && step.members.length === 0).length
    }),
    { numRuns: 300 },
  )
  assert.ok(entered > 50 && left > 20, `the imagined world must move: entered ${entered}, left ${left}`)
})

test('in max-availability no commit waits longer than the timeout and one look', () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 100 }), events => {
      const world = new World({ mode: 'max-availability', wanted: ['archive'], timeoutMs: 10_000 })
      for (const one of events) world.run(one)
      // From here on the archive hangs, and the supervisor looks.
      const hang: Event[] = Array.from({ length: 60 }, () => [
        { kind: 'look' } as const,
        { kind: 'act' } as const,
        { kind: 'reread' } as const,
        { kind: 'pass', ms: 250 } as const,
      ]).flat()
      world.run({ kind: 'commit' })
      for (const one of hang) world.run(one)
      assert.equal(world.acknowledged, world.lsn)
    }),
    { numRuns: 200 },
  )
})

test('the number is the length of the list, the word is FIRST, and nothing else is taken for ours', () => {
  assert.equal(formatNames([]), '')
  assert.equal(formatNames(['archive']), 'FIRST 1 (archive)')
  assert.equal(formatNames(['node_b', 'archive']), 'FIRST 2 (node_b, archive)')
  const foreign = [
    'ANY 1 (archive)',
    'FIRST 1 (node_b, archive)',
    'archive',
    '*',
    'FIRST 1 (*)',
    '1 (archive)',
  ]
  for (const text of foreign) assert.equal(parseNames(text), undefined, text)
  assert.throws(() => formatNames(['no good']), TypeError)
})
