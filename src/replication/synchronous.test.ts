import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Lsn } from '#lib/lsn.ts'
import {
  afterApply,
  afterProof,
  afterRecord,
  afterRestart,
  decide,
  firstState,
  type Instant,
  namesAtStart,
  type Standby,
  type SynchronousRules,
  type SynchronousState,
  type SynchronousView,
} from './synchronous.ts'

const timeoutMs = 10_000
const available: SynchronousRules = { mode: 'max-availability', wanted: ['archive'], timeoutMs }
const protect: SynchronousRules = { ...available, mode: 'max-protection' }
const both: SynchronousRules = { ...available, wanted: ['node_b', 'archive'] }

function at(ms: number): Instant {
  return { ms, at: new Date(Date.UTC(2026, 0, 1) + ms) }
}

function streaming(name: string, flushLsn: Lsn, priority = 0): Standby {
  return { name, state: 'streaming', syncState: priority > 0 ? 'sync' : 'async', priority, flushLsn }
}

function view(names: string[] | undefined, standbys: Standby[], more: Partial<SynchronousView> = {}) {
  return { names, standbys, lsn: 100n, waiting: 0, ...more }
}

/** The archive is a recorded member and the list is in force. */
const inSet: SynchronousState = { ...firstState(['archive']), applied: ['archive'], lsns: [100n] }
const alone: SynchronousState = { ...firstState([]), applied: [], lsns: [100n] }
const working = view(['archive'], [streaming('archive', 100n, 1)])
const frozen = view(['archive'], [streaming('archive', 50n, 1)], { waiting: 2 })

describe('to enter', () => {
  test('a member that is away, catching up or behind is not taken in', () => {
    for (const standbys of [
      [],
      [{ ...streaming('archive', 100n), state: 'catchup' }],
      [streaming('archive', 99n)],
      [{ ...streaming('archive', 100n), flushLsn: undefined }],
    ]) {
      assert.equal(decide(available, view([], standbys), alone, at(0)).step, undefined)
    }
  })

  test('reload, see that commits wait, see the flush of all there was, and only then record', () => {
    const reload = decide(available, view([], [streaming('archive', 100n)]), alone, at(0))
    assert.deepEqual(reload.step, { kind: 'apply', names: ['archive'], drops: false })
    const applied = afterApply(reload.state, { names: ['archive'], drops: false }, at(1))
    // Its sender has not read the new list yet.
    const early = decide(available, view(['archive'], [streaming('archive', 100n)]), applied, at(2))
    assert.equal(early.step, undefined)
    const proof = decide(available, working, early.state, at(3))
    assert.deepEqual(proof.step, { kind: 'prove' })
    const proved = afterProof(proof.state, 120n)
    const behind = decide(available, working, proved, at(4))
    assert.equal(behind.step, undefined)
    const there = view(['archive'], [streaming('archive', 120n, 1)], { lsn: 130n })
    const record = decide(available, there, behind.state, at(5))
    assert.equal(record.step?.kind, 'record')
    const done = decide(available, there, afterRecord(record.state, ['archive']), at(6))
    assert.deepEqual(
      [done.step, done.reason],
      [undefined, 'every commit waits until the archive has it on disk'],
    )
  })

  test('what another process left half way is done again from the reload on', () => {
    const fresh = firstState([])
    const first = decide(available, working, fresh, at(0))
    assert.deepEqual(first.step, { kind: 'apply', names: ['archive'], drops: false })
    const next = decide(
      available,
      working,
      afterApply(first.state, { names: ['archive'], drops: false }, at(1)),
      at(1),
    )
    assert.deepEqual(next.step, { kind: 'prove' })
  })

  test('in max-protection the list is in force before the member is there', () => {
    const { step } = decide(protect, view([], []), firstState([]), at(0))
    assert.deepEqual(step, { kind: 'apply', names: ['archive'], drops: false })
    assert.deepEqual(namesAtStart(protect, []), ['archive'])
    assert.deepEqual(namesAtStart(available, []), [])
    assert.deepEqual(namesAtStart(available, ['archive']), ['archive'])
  })

  test('who left again and again has to follow closely for longer each time', () => {
    const enters = (left: number[]) => {
      const steady = { archive: at(0) }
      const state = { ...alone, left, steady }
      const close = view([], [streaming('archive', 100n)])
      return [0, 1_000, 8_000, 60_000].find(ms => decide(available, close, state, at(ms)).step)
    }
    assert.equal(enters([]), 0)
    assert.equal(enters([-1]), 1_000)
    assert.equal(enters([-4, -3, -2, -1]), 8_000)
    assert.equal(enters(Array(20).fill(-1)), 60_000)
    assert.equal(enters([-600_000]), 0, 'what was long ago is forgotten')
  })
})

describe('to leave', () => {
  test('commits that waited exactly the timeout are enough, and the record comes first', () => {
    const start = decide(available, frozen, inSet, at(0))
    assert.equal(start.step, undefined)
    const before = decide(available, frozen, start.state, at(timeoutMs - 1))
    assert.equal(before.step, undefined)
    const due = decide(available, frozen, before.state, at(timeoutMs))
    assert.deepEqual(due.step, {
      kind: 'record',
      members: [],
      cause: 'commits had waited 10 s for it',
    })
    const next = decide(available, frozen, afterRecord(due.state, []), at(timeoutMs + 1))
    assert.deepEqual(next.step, { kind: 'apply', names: [], drops: true })
  })

  test('one that is away leaves after the timeout although no commit waits', () => {
    const gone = view(['archive'], [])
    const start = decide(available, gone, inSet, at(0))
    assert.equal(start.reason, 'the next commit waits for the archive: it is not connected')
    assert.equal(decide(available, gone, start.state, at(timeoutMs - 1)).step, undefined)
    const { step } = decide(available, gone, start.state, at(timeoutMs))
    assert.deepEqual(step, { kind: 'record', members: [], cause: 'it was not connected for 10 s' })
  })

  test('one that releases what waited starts the time anew, however many wait again', () => {
    const start = decide(available, frozen, inSet, at(0))
    const released = view(['archive'], [streaming('archive', 100n, 1)], { waiting: 3, lsn: 200n })
    const middle = decide(available, released, start.state, at(6_000))
    const stuckAgain = { ...released, lsn: 300n }
    assert.equal(decide(available, stuckAgain, middle.state, at(timeoutMs)).step, undefined)
    assert.equal(decide(available, stuckAgain, middle.state, at(6_000 + timeoutMs)).step?.kind, 'record')
  })

  test('progress that releases nobody does not count', () => {
    const start = decide(available, frozen, inSet, at(0))
    const creeping = view(['archive'], [streaming('archive', 99n, 1)], { waiting: 2 })
    assert.equal(decide(available, creeping, start.state, at(timeoutMs)).step?.kind, 'record')
  })

  test('in max-protection it stays, and the reason says for whom commits wait since when', () => {
    const start = decide(protect, frozen, inSet, at(0))
    const later = decide(protect, frozen, start.state, at(3_600_000))
    assert.equal(later.step, undefined)
    assert.equal(
      later.reason,
      'commits wait for the archive since 2026-01-01T00:00:00.000Z: it has not confirmed 0/64',
    )
    assert.deepEqual(later.blocked, { since: at(0).at, by: ['archive'] })
  })

  test('that commits wait is told from the second look of a second on', () => {
    const start = decide(protect, frozen, inSet, at(0))
    assert.equal(start.blocked, undefined)
    assert.equal(decide(protect, frozen, start.state, at(250)).blocked, undefined)
    assert.ok(decide(protect, frozen, start.state, at(500)).blocked)
  })

  test('what nobody asks for any more leaves in either mode, the record first', () => {
    for (const rules of [available, protect]) {
      const none = { ...rules, wanted: [] }
      const first = decide(none, working, inSet, at(0))
      assert.deepEqual(first.step, {
        kind: 'record',
        members: [],
        cause: 'the configuration no longer asks for it',
      })
      const next = decide(none, working, afterRecord(first.state, []), at(1))
      assert.deepEqual(next.step, { kind: 'apply', names: [], drops: true })
    }
  })

  test('when somebody else changed the list, the record follows the truth and the list is written again', () => {
    for (const names of [[], undefined]) {
      const changed = view(names, [streaming('archive', 100n)])
      const first = decide(protect, changed, inSet, at(0))
      assert.deepEqual(first.step, {
        kind: 'record',
        members: [],
        cause: 'somebody else took it out of synchronous_standby_names',
      })
      const next = decide(protect, changed, afterRecord(first.state, []), at(1))
      assert.deepEqual(next.step, { kind: 'apply', names: ['archive'], drops: false })
      const shown = decide(protect, working, afterRecord({ ...first.state, provedLsn: 1n }, []), at(1))
      assert.equal(shown.step?.kind, 'apply', 'even when a session shows it already')
    }
  })

  test('a restart of PostgreSQL gives its members the whole timeout to come back', () => {
    const gone = view(['archive'], [])
    const start = decide(available, gone, inSet, at(0))
    const restarted = afterRestart(start.state)
    assert.equal(decide(available, gone, restarted, at(timeoutMs)).step, undefined)
  })
})

describe('with a data node', () => {
  const listed = ['node_b', 'archive']
  const full: SynchronousState = { ...firstState(listed), applied: listed, lsns: [100n] }

  test('the one that is away leaves, the other stays', () => {
    const gone = view(listed, [streaming('archive', 100n, 2)], { waiting: 1 })
    const start = decide(both, gone, full, at(0))
    const due = decide(both, gone, start.state, at(timeoutMs))
    assert.equal(due.step?.kind === 'record' && due.step.members.join(), 'archive')
    const next = decide(both, gone, afterRecord(due.state, ['archive']), at(timeoutMs))
    assert.deepEqual(next.step, { kind: 'apply', names: ['archive'], drops: true })
  })

  test('nobody is recorded before every sender works with the new list', () => {
    const state: SynchronousState = {
      ...firstState(['archive']),
      applied: listed,
      lsns: [100n],
      provedLsn: 100n,
    }
    // The archive's sender still has it in the first place, as in FIRST 1 (archive).
    const early = view(listed, [streaming('node_b', 100n, 1), streaming('archive', 100n, 1)])
    assert.equal(decide(both, early, state, at(0)).step, undefined)
    const ready = view(listed, [streaming('node_b', 100n, 1), streaming('archive', 100n, 2)])
    assert.deepEqual(decide(both, ready, state, at(0)).step, {
      kind: 'record',
      members: listed,
      cause: 'it has everything and commits wait for it',
    })
  })

  test('of two connections by one name the one that PostgreSQL counts is looked at', () => {
    const ghost = { ...streaming('archive', 10n, 1), syncState: 'sync' }
    const second = { ...streaming('archive', 100n, 1), syncState: 'potential' }
    const seen = view(['archive'], [second, ghost], { waiting: 1 })
    const start = decide(available, seen, inSet, at(0))
    assert.equal(decide(available, seen, start.state, at(timeoutMs)).step?.kind, 'record')
  })
})
