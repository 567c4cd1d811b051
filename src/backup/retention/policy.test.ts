import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { formatLsn, parseLsn } from '#lib/lsn.ts'
import type { BackupMarker } from '../model.ts'
import { planRetention, type RetentionRules, type RetentionView } from './policy.ts'

const now = new Date('2026-06-30T12:00:00Z')
const rules: RetentionRules = { keepDays: 7, keepAtLeast: 2, keepFilesDays: 30, keepFilesAtLeast: 2 }
const segmentBytes = 16 * 1024 * 1024

function database(
  daysAgo: number,
  facts: { system?: string; start?: bigint; timeline?: number } = {},
): BackupMarker {
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
      timeline: facts.timeline ?? 1,
      start,
      stop: start,
      stopTimeline: facts.timeline ?? 1,
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
  const timelines = { histories: new Map(), living: undefined }
  return {
    backups,
    verified,
    pinned: new Set(),
    ...timelines,
    receiverStale: undefined,
    readers: [],
    ...facts,
  }
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

  // Timeline 2 parts from timeline 1 where the log was `days` ago.
  const parting = (days: number) => {
    const end = BigInt(1000 - days) * BigInt(segmentBytes) + 100n
    return { histories: new Map([['a', new Map([[2, [{ timeline: 1, end }]]])]]) }
  }
  const onTwo = (days: number) => ({ ...database(days, { timeline: 2 }), id: `two-${days}` })

  test('the window begins with a backup that leads to the branch that lives', () => {
    // A restore three days ago went back to where the log was ten days ago.
    const backups = [database(8), database(9), database(11), database(20), onTwo(1), onTwo(2)]
    const plan = planRetention(view(backups, parting(10)), rules, now)
    assert.deepEqual(ids(plan.keep), ['a-db-11', 'two-1', 'two-2'])
    assert.equal(plan.walNeededFrom.get('a'), 989n * BigInt(segmentBytes))
  })

  test('a restored database that has no backup yet lives on what it was restored from', () => {
    const backups = [2, 8, 9, 11, 20, 30].map(days => database(days))
    const living = { system: 'a', timeline: 2 }
    const plan = planRetention(view(backups, { ...parting(10), living }), rules, now)
    assert.deepEqual(ids(plan.keep), ['a-db-11', 'a-db-2', 'a-db-20', 'a-db-8'])
    const kept = (id: string) => plan.keep.find(one => one.backup.id === id)?.why
    assert.equal(kept('a-db-11'), 'the window of the past begins with it')
    assert.equal(kept('a-db-8'), 'another timeline of the window begins with it')
    assert.equal(kept('a-db-20'), 'it is one of the last 2 verified ones')
  })

  test('the minimum counts nothing that was given up', () => {
    const backups = [database(100), database(110), database(150), onTwo(90), database(160)]
    const plan = planRetention(view(backups, parting(120)), rules, now)
    assert.deepEqual(ids(plan.keep), ['a-db-150', 'two-90'])
  })

  test('takes nothing while no verified backup is known to lead to the branch that lives', () => {
    const backups = [database(8), database(9), database(20), onTwo(1), onTwo(2)]
    assert.deepEqual(ids(planRetention(view(backups), rules, now).remove), [])
  })

  test('never takes the last verified one, a pinned one, or WAL that a kept one needs', () => {
    const anyBackup = fc.record({
      days: fc.integer({ min: 0, max: 400 }),
      system: fc.constantFrom('a', 'b'),
      timeline: fc.constantFrom(1, 2),
      verified: fc.boolean(),
      pinned: fc.boolean(),
    })
    fc.assert(
      fc.property(
        fc.array(anyBackup, { maxLength: 12 }),
        fc.integer({ min: 0, max: 400 }),
        (given, parted) => {
          const backups = given.map((one, i) => ({ ...database(one.days, one), id: `${i}` }))
          const { histories } = parting(parted)
          const partedAt = histories.get('a')?.get(2)?.[0]?.end ?? 0n
          histories.set('b', histories.get('a') ?? new Map())
          const named = (key: 'verified' | 'pinned') =>
            new Set(given.flatMap((one, i) => (one[key] ? [`${i}`] : [])))
          const plan = planRetention(
            view(backups, { verified: named('verified'), pinned: named('pinned'), histories }),
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
          // Every moment of the window can be restored, if it could before: of the newest one's branch, and of each branch
          // that has backups in the window.
          const windowFrom = now.getTime() - rules.keepDays * 86_400_000
          const stopOf = (one: BackupMarker) => Date.parse(one.database?.stopTime ?? '')
          const newest = plan.keep[0]?.backup
          const leadsTo = (tip: BackupMarker, one: BackupMarker) =>
            one.database?.systemIdentifier === tip.database?.systemIdentifier &&
            (one.database?.stopTimeline === tip.database?.stopTimeline
              ? one.database?.stopTimeline === 1 || (parseLsn(one.database?.stop ?? '') ?? 0n) >= partedAt
              : one.database?.stopTimeline === 1 && (parseLsn(one.database.stop) ?? partedAt) <= partedAt)
          const covers = (tip: BackupMarker, list: readonly BackupMarker[]) =>
            list.some(one => named('verified').has(one.id) && leadsTo(tip, one) && stopOf(one) <= windowFrom)
          const ofSystem = backups.filter(
            one => one.database?.systemIdentifier === newest?.database?.systemIdentifier,
          )
          const kept = plan.keep.map(one => one.backup)
          for (const tip of ofSystem)
            if ((tip === newest || stopOf(tip) > windowFrom) && covers(tip, backups))
              assert(covers(tip, kept))
        },
      ),
      { numRuns: 500 },
    )
  })
})
