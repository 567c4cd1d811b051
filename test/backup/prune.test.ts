import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { readContents } from '#backup/catalogue.ts'
import { layout } from '#backup/layout.ts'
import { planRetention, type RetentionPlan } from '#backup/retention/policy.ts'
import { prune } from '#backup/retention/prune.ts'
import { verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { at, SmallRepository, segmentOf, system } from '#test/backup/small-repository.ts'

const rules = { keepDays: 7, keepAtLeast: 1, keepFilesDays: 30, keepFilesAtLeast: 1 }
const now = new Date('2026-11-24T12:00:00Z')
const day = (daysAgo: number) => new Date(now.getTime() - daysAgo * 86_400_000).toISOString()
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
  return planRetention({ backups, ...facts, receiverStale: undefined, readers: [] }, rules, now)
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
      prune({ repository, plan, lease: lost, by: 'test', clock: systemClock }),
      /lease lost/,
    )
    const left = (await readContents(repository)).backups.map(one => one.id)
    assert.deepEqual(left.toSorted(), ['backup-0', 'backup-10', 'backup-3'])
    assert.deepEqual((await verify({ repository, clock: systemClock })).faults, [])
  })

  test('removes old log, whole and in pieces, and nothing that a kept backup needs', async () => {
    const { repository } = small
    const removal = await prune({ repository, plan: await planNow(), lease, by: 'test', clock: systemClock })
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
    const removal = await prune({ repository, plan: forced, lease, by: 'test', clock: systemClock })
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
    const remove = () => prune({ repository, plan, lease, by: 'test', clock: systemClock })
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
