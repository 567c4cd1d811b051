import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { formatLsn } from '#lib/lsn.ts'
import type { BackupMarker } from '../model.ts'
import { planRetention, type RetentionRules, type RetentionView } from './policy.ts'

const now = new Date('2026-06-30T12:00:00Z')
const rules: RetentionRules = { keepDays: 7, keepAtLeast: 2, keepFilesDays: 30, keepFilesAtLeast: 2 }
const segmentBytes = 16 * 1024 * 1024

function database(daysAgo: number, facts: { system?: string; start?: bigint } = {}): BackupMarker {
  const time = new Date(now.getTime() - daysAgo * 86_400_000).toISOString()
  const start = formatLsn(facts.start ?? BigInt(1000 - daysAgo) * BigInt(segmentBytes) + 40n)
  return {
    ...files(daysAgo),
    id: `${facts.system ?? 'a'}-db-${daysAgo}`,
    kind: 'full',
    database: {
      systemIdentifier: facts.system ?? 'a',
      serverVersion: 180004,
      segmentBytes,
      timeline: 1,
      start,
      stop: start,
      stopTimeline: 1,
      startTime: time,
      stopTime: time,
      checksums: true,
      manifestObject: '',
      archives: [],
    },
  }
}

function files(daysAgo: number): BackupMarker {
  const time = new Date(now.getTime() - daysAgo * 86_400_000).toISOString()
  return {
    format: 1,
    repositoryId: 'r',
    id: `files-${daysAgo}`,
    kind: 'files',
    program: 'test',
    startedAt: time,
    finishedAt: time,
    objects: [],
    dataKeys: [],
    rawBytes: 0,
    storedBytes: 0,
  }
}

function view(backups: BackupMarker[], facts: Partial<RetentionView> = {}): RetentionView {
  const verified = new Set(backups.map(one => one.id))
  return { backups, verified, pinned: new Set(), receiverStale: undefined, readers: [], ...facts }
}

const ids = (decisions: readonly { backup: BackupMarker }[]) => decisions.map(one => one.backup.id).sort()

describe('retention', () => {
  test('keeps the window and the one that the window begins with', () => {
    const plan = planRetention(view([1, 3, 5, 8, 9, 12].map(days => database(days))), rules, now)
    assert.deepEqual(plan.refusals, [])
    assert.deepEqual(ids(plan.keep), ['a-db-1', 'a-db-3', 'a-db-5', 'a-db-8'])
    assert.deepEqual(ids(plan.remove), ['a-db-12', 'a-db-9'])
    assert.equal(plan.walNeededFrom.get('a'), 992n * BigInt(segmentBytes))
  })

  test('keeps the minimum of verified ones however old they are', () => {
    const plan = planRetention(view([100, 200, 300].map(days => database(days))), rules, now)
    assert.deepEqual(ids(plan.keep), ['a-db-100', 'a-db-200'])
  })

  test('an unverified one does not begin the window, nor count for the minimum', () => {
    const backups = [1, 8, 9, 12].map(days => database(days))
    const plan = planRetention(view(backups, { verified: new Set(['a-db-1', 'a-db-9']) }), rules, now)
    assert.deepEqual(ids(plan.keep), ['a-db-1', 'a-db-9'])
    const none = planRetention(view(backups, { verified: new Set(['a-db-1']) }), rules, now)
    assert.deepEqual(ids(none.remove), [])
  })

  test('leaves pins alone and the WAL that they need', () => {
    const backups = [1, 2, 8, 12, 40].map(days => database(days))
    const plan = planRetention(view(backups, { pinned: new Set(['a-db-40']) }), rules, now)
    assert.deepEqual(ids(plan.remove), ['a-db-12'])
    assert.equal(plan.walNeededFrom.get('a'), 960n * BigInt(segmentBytes))
  })

  test('refuses while the newest is not verified, the log does not arrive, or somebody restores', () => {
    const backups = [1, 2, 3, 8, 9].map(days => database(days))
    const verified = new Set(backups.slice(1).map(one => one.id))
    const plan = planRetention(
      view(backups, { verified, receiverStale: 'down', readers: ['ana'] }),
      rules,
      now,
    )
    assert.equal(plan.refusals.length, 3)
    assert.match(plan.refusals[0] ?? '', /a-db-1, is not verified/)
    assert.equal(planRetention(view([]), rules, now).refusals.length, 1)
  })

  test('refuses to take more than half at once', () => {
    const plan = planRetention(view([1, 8, 9, 10, 11, 12].map(days => database(days))), rules, now)
    assert.match(plan.refusals[0] ?? '', /4 of 6 backups would go/)
  })

  test('files have days and a minimum of their own', () => {
    const backups = [database(1), ...[1, 29, 31, 40].map(days => files(days))]
    const plan = planRetention(view(backups), rules, now)
    assert.deepEqual(ids(plan.remove), ['files-31', 'files-40'])
  })

  test('a replaced database fades with the window, and its WAL with its last backup', () => {
    const old = [database(20, { system: 'old' }), database(30, { system: 'old' })]
    const plan = planRetention(view([...[1, 2, 8].map(days => database(days)), ...old]), rules, now)
    assert.deepEqual(ids(plan.remove), ['old-db-20', 'old-db-30'])
    assert.equal(plan.walNeededFrom.get('old'), 0xffff_ffff_ffff_ffffn)
  })

  test('never takes the last verified one, a pinned one, or WAL that a kept one needs', () => {
    const anyBackup = fc.record({
      days: fc.integer({ min: 0, max: 400 }),
      system: fc.constantFrom('a', 'b'),
      verified: fc.boolean(),
      pinned: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(anyBackup, { maxLength: 12 }), given => {
        const backups = given.map((one, i) => ({ ...database(one.days, one), id: `${i}` }))
        const named = (key: 'verified' | 'pinned') =>
          new Set(given.flatMap((one, i) => (one[key] ? [`${i}`] : [])))
        const plan = planRetention(
          view(backups, { verified: named('verified'), pinned: named('pinned') }),
          rules,
          now,
        )
        assert.equal(plan.keep.length + plan.remove.length, backups.length)
        for (const { backup } of plan.remove) assert(!named('pinned').has(backup.id))
        if (plan.refusals.length > 0) return
        assert(plan.keep.some(({ backup }) => named('verified').has(backup.id)))
        for (const { backup } of plan.keep) {
          const needed = plan.walNeededFrom.get(backup.database?.systemIdentifier ?? '')
          const start = BigInt(1000 - (given[Number(backup.id)]?.days ?? 0)) * BigInt(segmentBytes)
          assert(needed !== undefined && needed <= start)
        }
        // Every moment of the window can be restored, if it could before.
        const windowFrom = now.getTime() - rules.keepDays * 86_400_000
        const newest = plan.keep[0]?.backup.database?.systemIdentifier
        const covers = (list: readonly BackupMarker[]) =>
          list.some(
            one =>
              named('verified').has(one.id) &&
              one.database?.systemIdentifier === newest &&
              Date.parse(one.database?.stopTime ?? '') <= windowFrom,
          )
        if (covers(backups)) assert(covers(plan.keep.map(one => one.backup)))
      }),
      { numRuns: 500 },
    )
  })
})
