import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { layout } from '#backup/layout.ts'
import { formatVersion, type VerifyReport } from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { type VerifyOptions, verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { formatLsn } from '#lib/lsn.ts'
import { at, SmallRepository, segmentOf, system, walPages } from '#test/backup/small-repository.ts'

const id = '20261124T143000Z-full-1a2b3c'
let small: SmallRepository

/** One backup, its log over a timeline switch, an open segment, a restore point, a pin. */
before(async () => {
  small = await SmallRepository.make()
  const { repository } = small
  await small.writeBackup(id, { segment: 5, finishedAt: '2026-11-24T14:31:00Z' })
  await small.writeSegments([
    [1, 5],
    [1, 6],
    [2, 7],
    [2, 8],
  ])
  await small.writeHistory(2, [{ timeline: 1, end: at(7, 50) }])
  await small.writeTail(2, 9, 500)
  const base = { format: formatVersion, repositoryId: repository.id, at: '2026-11-24T14:30:00Z' }
  const point = { ...base, name: 'before', systemIdentifier: system, timeline: 1, lsn: '0/700000' }
  await repository.writeSigned(layout.point('before'), point)
  await repository.writeSigned(layout.pin(id), { ...base, backupId: id, reason: 'test' })
})

after(() => small.close())

function check(options: Partial<VerifyOptions> = {}): Promise<VerifyReport> {
  return verify({ repository: small.repository, clock: systemClock, ...options })
}

describe('verify', () => {
  test('finds a whole repository whole, sealed and opened, and how far its log goes', async () => {
    for (const options of [{}, { pool: small.pool }]) {
      const report = await check(options)
      assert.deepEqual(report.faults, [])
      assert.equal(report.ok, true)
      assert.deepEqual(report.wholeBackups, [id])
      assert.deepEqual(report.walThrough, [
        { systemIdentifier: system, timeline: 2, end: formatLsn(at(9, 500)) },
      ])
    }
  })

  test('finds and names every object that is flipped, cut, swapped or taken away', async () => {
    const report = await check()
    await small.repository.writeSigned(layout.report('verify', report.id), report)
    const all = await small.keys()
    assert(all.length > 15, `only ${all.length} objects`)
    const known = { lastReport: layout.report('verify', report.id) }
    for (const [index, key] of all.entries()) {
      // A reader's or a holder's word is not part of what is kept.
      if (key.startsWith('locks/') || key.startsWith('readers/')) continue
      const original = await small.storage.get(key)
      const other = await small.storage.get(all[(index + 1) % all.length] as string)
      const flipped = Buffer.from(original)
      const place = (index * 7919) % flipped.length
      flipped.writeUInt8(flipped.readUInt8(place) ^ 0x10, place)
      const damages: [string, Buffer | undefined][] = [
        ['flip', flipped],
        ['cut', original.subarray(0, original.length - 1)],
        ['swap', other],
        ['delete', undefined],
      ]
      for (const [name, bytes] of damages) {
        if (bytes) await small.storage.put(key, [bytes])
        else await small.storage.delete([key])
        const named = await faultsOf(known)
        assert(
          named.some(fault => fault === key || fault.startsWith(key) || key.startsWith(fault)),
          `${name} of ${key} was not found: ${named.join(', ') || 'nothing was'}`,
        )
        await small.storage.put(key, [original])
      }
    }
    const last = await check({ known })
    assert.deepEqual(last.faults, [])
    await small.storage.delete([layout.report('verify', report.id)])
  })

  test('a backup of which the log has a hole is not whole', async () => {
    const key = layout.segment(system, segmentOf(2, 7))
    const original = await small.storage.get(key)
    await small.storage.delete([key])
    const report = await check()
    await small.storage.put(key, [original])
    assert.deepEqual(report.wholeBackups, [])
    assert.deepEqual(report.faults, [{ object: key, problem: 'missing', reason: 'the log has a hole here' }])
  })

  test('log of another place that was sealed under this name is found when it is opened', async () => {
    const key = layout.segment(system, segmentOf(2, 8))
    const original = await small.storage.get(key)
    await small.storage.delete([key])
    await small.writeSegments([[2, 8]], () => walPages(2, 7))
    await small.writeTail(2, 9, 20_000, { from: 500, content: () => walPages(3, 9) })
    assert.deepEqual((await check()).faults, [])
    const { faults } = await check({ pool: small.pool })
    const tail = layout.tail(system, segmentOf(2, 9), 500, 20_000)
    assert.deepEqual(
      faults.toSorted((a, b) => (a.object < b.object ? -1 : 1)),
      [
        { object: tail, problem: 'damaged', reason: 'page 0/902000: it is of timeline 00000003' },
        { object: key, problem: 'damaged', reason: 'page 0/800000: it says it is page 0/700000' },
      ],
    )
    await small.storage.put(key, [original])
    await small.storage.delete([tail])
  })

  test('what was removed on purpose is not missed', async () => {
    const report = await check()
    await small.repository.writeSigned(layout.report('verify', report.id), report)
    const key = layout.pin(id)
    const original = await small.storage.get(key)
    await small.storage.delete([key])
    assert.deepEqual(
      (await check()).faults.map(one => one.object),
      [key],
    )
    const removal = {
      format: 1,
      repositoryId: small.repository.id,
      kind: 'removal',
      at: new Date().toISOString(),
    }
    await small.repository.writeSigned(layout.report('removal', 'x'), {
      ...removal,
      backups: [],
      objects: [key],
    })
    assert.deepEqual((await check()).faults, [])
    await small.storage.put(key, [original])
  })

  test('reads new backups at once and the rest by turns', async () => {
    for (const key of await small.keys())
      if (key.startsWith(layout.allReports)) await small.storage.delete([key])
    const first = await check({ everyDays: 7 })
    assert(first.objects >= 4, 'a backup that nobody has read is read whole')
    assert.deepEqual(first.wholeBackups, [id])
  })

  test('reads the log that a new backup was taken in, on whatever day', async () => {
    const key = layout.segment(system, segmentOf(1, 5))
    const original = await small.storage.get(key)
    await small.storage.put(key, [original.subarray(1)])
    for (const day of [24, 25, 26]) {
      const clock = { ...systemClock, now: () => new Date(`2026-11-${day}T03:00:00Z`) }
      const { faults, wholeBackups } = await check({ everyDays: 300, clock })
      assert.deepEqual([faults.map(one => one.object), wholeBackups], [[key], []])
    }
    await small.storage.put(key, [original])
  })
})

/** Objects that a check names; a repository that cannot even be opened names its descriptor. */
async function faultsOf(known: { lastReport: string }): Promise<string[]> {
  try {
    const { storage, home } = small
    const repository = await Repository.open({ storage, ring: small.repository.ring, home, log: silentLog })
    const report = await verify({ repository, clock: systemClock, known })
    return report.faults.map(fault => fault.object)
  } catch (error) {
    const { facts } = error as { facts?: { object?: string } }
    return [facts?.object ?? layout.repository]
  }
}
