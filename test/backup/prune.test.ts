import assert from 'node:assert/strict'
import { after, before, describe, type TestContext, test } from 'node:test'
import { readContents } from '#backup/catalogue.ts'
import { layout, type ReportKind } from '#backup/layout.ts'
import type { Repository } from '#backup/repository.ts'
import { planRetention, type RetentionPlan } from '#backup/retention/policy.ts'
import { prune } from '#backup/retention/prune.ts'
import { verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { at, SmallRepository, segmentOf, system } from '#test/backup/small-repository.ts'

const rules = { keepDays: 7, keepAtLeast: 1, keepFilesDays: 30, keepFilesAtLeast: 1 }
const now = new Date('2026-11-24T12:00:00Z')
const day = (daysAgo: number) => new Date(now.getTime() - daysAgo * 86_400_000).toISOString()
const usual = { keepDays: rules.keepDays }
const lease = { check: async () => {} }

let small: SmallRepository

/** Backups of 20, 10 and 3 days ago and of today, each with two segments of log. */
before(async () => {
  small = await SmallRepository.make()
  for (const [index, daysAgo] of [20, 10, 3, 0].entries())
    await small.writeBackup(`backup-${daysAgo}`, { segment: 10 + 2 * index, finishedAt: day(daysAgo) })
  await small.writeSegments(Array.from({ length: 10 }, (_, index) => [1, 8 + index] as const))
  await small.writeTail(1, 9, 300)
  await small.writeTail(1, 18, 300)
  const report = await verify({ repository: small.repository, clock: systemClock })
  assert.deepEqual(report.faults, [])
  await small.repository.writeSigned(layout.report('verify', report.id), report)
})

after(() => small.close())

async function planNow(): Promise<RetentionPlan> {
  const { backups, verifiedAt, pins } = await readContents(small.repository)
  const facts = { verified: new Set(verifiedAt.keys()), pinned: new Set(pins.keys()) }
  const timelines = { histories: new Map(), living: undefined }
  return planRetention({ backups, ...facts, ...timelines, receiverStale: undefined, readers: [] }, rules, now)
}

describe('pruning', () => {
  test('stops before the next backup when the lease is lost, and tells what is gone', async () => {
    const plan = await planNow()
    let checks = 0
    const lost = {
      check: async () => {
        if (++checks > 1) throw new Error('lease lost')
      },
    }
    const { repository } = small
    await assert.rejects(
      prune({ repository, plan, ...usual, lease: lost, by: 'test', clock: systemClock }),
      /lease lost/,
    )
    const left = (await readContents(repository)).backups.map(one => one.id)
    assert.deepEqual(left.toSorted(), ['backup-0', 'backup-10', 'backup-3'])
    assert.deepEqual((await verify({ repository, clock: systemClock })).faults, [])
  })

  test('removes old log, whole and in pieces, and nothing that a kept backup needs', async () => {
    const { repository } = small
    const removal = await prune({
      repository,
      plan: await planNow(),
      ...usual,
      lease,
      by: 'test',
      clock: systemClock,
    })
    assert.deepEqual(removal.backups, [])
    assert.equal(removal.walRemoved[0]?.segments, 5)
    const keys = await small.keys()
    const segments = keys
      .filter(key => key.startsWith(layout.cluster(system)))
      .map(key => key.split('/').at(-1))
    assert.deepEqual(
      segments,
      [12, 13, 14, 15, 16, 17].map(number => segmentOf(1, number)),
    )
    assert(keys.some(key => key.startsWith(layout.tails(system, segmentOf(1, 18)))))
    const report = await verify({ repository, clock: systemClock })
    assert.deepEqual(report.faults, [])
    assert.deepEqual(report.wholeBackups.toSorted(), ['backup-0', 'backup-10', 'backup-3'])
  })

  test('takes the data keys of what it removes, and no other', async () => {
    const { repository } = small
    const { backups } = await readContents(repository)
    for (const id of backups.flatMap(one => one.dataKeys)) {
      const found = (await small.keys()).filter(key => key.startsWith(`${layout.dataKeys}${id}/`))
      assert.equal(found.length, 1)
    }
    const before = (await small.keys()).filter(key => key.startsWith(layout.dataKeys)).length
    const oldest = backups.find(one => one.id === 'backup-10')
    const plan = await planNow()
    const forced = {
      ...plan,
      remove: plan.keep.filter(one => one.backup.id === oldest?.id),
      keep: plan.keep.filter(one => one.backup.id !== oldest?.id),
      walNeededFrom: new Map([[system, at(14)]]),
    }
    const removal = await prune({ repository, plan: forced, ...usual, lease, by: 'test', clock: systemClock })
    assert.deepEqual(removal.backups, [oldest?.id])
    assert.equal((await small.keys()).filter(key => key.startsWith(layout.dataKeys)).length, before - 1)
    assert.equal(
      (await small.keys()).filter(key => key.startsWith(layout.backup(oldest?.id ?? ''))).length,
      0,
    )
  })

  test('keeps the key of a backup whose own log another one still needs', async () => {
    const { repository } = small
    const backup = await small.writeBackup('own-log', { segment: 15, finishedAt: day(9) })
    const plan = await planNow()
    const forced = { ...plan, remove: [{ backup, why: 'test' }], walNeededFrom: new Map([[system, at(15)]]) }
    const keep = plan.keep.filter(one => one.backup.id !== backup.id)
    const removal = await prune({
      repository,
      plan: { ...forced, keep },
      ...usual,
      lease,
      by: 'test',
      clock: systemClock,
    })
    assert.deepEqual(removal.objects, [])
    const [dataKey = ''] = backup.dataKeys
    assert((await small.keys()).some(key => key.startsWith(`${layout.dataKeys}${dataKey}/`)))
  })

  test('stops for a pin and for a reader that came after the plan', async () => {
    const { repository, storage } = small
    const backup = await small.writeBackup('late-wish', { segment: 15, finishedAt: day(9) })
    const plan = { ...(await planNow()), remove: [{ backup, why: 'test' }], walNeededFrom: new Map() }
    const remove = () => prune({ repository, plan, ...usual, lease, by: 'test', clock: systemClock })
    await storage.put(layout.pin(backup.id), [Buffer.from('a pin')])
    await assert.rejects(remove(), /late-wish was pinned meanwhile/)
    await storage.delete([layout.pin(backup.id)])
    await storage.put(layout.reader('somebody'), [Buffer.from('a word')])
    await assert.rejects(remove(), /reads from the repository/)
    await storage.delete([layout.reader('somebody')])
    assert((await repository.backups()).some(one => one.id === backup.id))
    assert.deepEqual((await remove()).backups, [backup.id])
  })
})

const clock = { ...systemClock, now: () => now }

async function fresh(t: TestContext): Promise<SmallRepository> {
  const own = await SmallRepository.make()
  t.after(() => own.close())
  return own
}

describe('what pruning removes when backups and log have gone', () => {
  test('is the data key of log of which nothing is left, once a check saw the key a day ago', async t => {
    const own = await fresh(t)
    const { repository, storage } = own
    const backup = await own.writeBackup('kept', { segment: 20, finishedAt: day(3) })
    const before = new Set(await keysOf(repository))
    await own.writeSegments([[1, 10]])
    const [ofOldLog = ''] = (await keysOf(repository)).filter(id => !before.has(id))
    await own.writeSegments([
      [1, 20],
      [1, 21],
    ])
    await own.writeTail(1, 22, 300)
    const inUse = await repository.newDataKey()
    const dayBefore = { ...systemClock, now: () => new Date(day(1.5)) }
    const report = await verify({ repository, clock: dayBefore })
    await repository.writeSigned(layout.report('verify', report.id), report)
    await repository.newDataKey()
    repository.ring.keepOnly([inUse.id])
    const all = await keysOf(repository)
    const plan = { refusals: [], keep: [{ backup, why: 'test' }], remove: [], walNeededFrom: new Map() }
    plan.walNeededFrom.set(system, at(20))
    const remove = () => prune({ repository, plan, ...usual, lease, by: 'test', clock })

    const unreadable = layout.segment(system, segmentOf(1, 21))
    const original = await storage.get(unreadable)
    await storage.put(unreadable, [original.subarray(0, 10)])
    const first = await remove()
    assert.deepEqual([first.objects, first.walRemoved[0]?.segments], [[], 1])
    await storage.put(unreadable, [original])

    const second = await remove()
    assert.deepEqual(
      second.objects.map(key => key.split('/')[1]),
      [ofOldLog],
    )
    assert.deepEqual(
      await keysOf(repository),
      all.filter(id => id !== ofOldLog),
    )
    assert.deepEqual((await verify({ repository, clock })).faults, [])
  })

  test('are reports a month older than the window, but for the last ten of each kind', async t => {
    const own = await fresh(t)
    const { repository } = own
    const write = async (kind: ReportKind, daysAgo: number) => {
      const id = `${day(daysAgo).replace(/[-:]|\.\d+/g, '')}-test`
      const facts = {
        finishedAt: day(daysAgo),
        at: day(daysAgo),
        wholeBackups: [],
        faults: [],
        inventory: [],
      }
      await repository.writeSigned(layout.report(kind, id), { kind, id, ...facts, objects: [], backups: [] })
      return layout.report(kind, id)
    }
    const written = { verify: [] as string[], drill: [] as string[], removal: [] as string[] }
    for (let index = 0; index < 12; index++) {
      // The newest checks lie within the time that reports are kept.
      written.verify.push(await write('verify', 39.5 - index))
      written.drill.push(await write('drill', 100 - index))
      written.removal.push(await write('removal', 70 - index))
    }
    const plan = { refusals: [], keep: [], remove: [], walNeededFrom: new Map() }
    const removal = await prune({ repository, plan, ...usual, lease, by: 'test', clock })
    const gone = [...written.verify.slice(0, 2), ...written.drill.slice(0, 2), ...written.removal.slice(0, 2)]
    assert.deepEqual(removal.objects, gone)
    const left = (await own.keys()).filter(key => key.startsWith(layout.allReports))
    assert.equal(left.length, 3 * 10 + 1)
    const { verifies, drills } = await readContents(repository)
    assert.deepEqual([verifies.length, drills.length], [10, 10])
    assert(verifies.every(one => !('inventory' in one)))
  })

  test('is no report of a removal that a check may still ask for', async t => {
    const { repository } = await fresh(t)
    const write = (kind: ReportKind, daysAgo: number) => {
      const id = `${day(daysAgo).replace(/[-:]|\.\d+/g, '')}-test`
      return repository.writeSigned(layout.report(kind, id), {})
    }
    await write('verify', 200)
    for (let index = 0; index < 20; index++) await write('removal', 100 - index)
    const plan = { refusals: [], keep: [], remove: [], walNeededFrom: new Map() }
    assert.deepEqual((await prune({ repository, plan, ...usual, lease, by: 'test', clock })).objects, [])
  })
})

async function keysOf({ storage }: Repository): Promise<string[]> {
  const keys = await Array.fromAsync(storage.list(layout.dataKeys))
  return keys.map(({ key }) => key.split('/')[1] ?? '')
}
