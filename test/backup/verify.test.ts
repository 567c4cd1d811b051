import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { layout } from '#backup/layout.ts'
import { type BackupMarker, formatVersion, type VerifyReport } from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { type VerifyOptions, verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { formatLsn } from '#lib/lsn.ts'
import { storageError } from '#storage/errors.ts'
import type { Storage } from '#storage/storage.ts'
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
    const objects = await objectsOf(small)
    for (const [index, key] of all.entries()) {
      // A reader's or a holder's word is not part of what is kept.
      if (key.startsWith('locks/') || key.startsWith('readers/')) continue
      const original = objects.get(key) as Buffer
      const other = objects.get(all[(index + 1) % all.length] as string) as Buffer
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
        const damaged = new Map(objects)
        if (bytes) damaged.set(key, bytes)
        else damaged.delete(key)
        const named = await faultsOf(inMemory(damaged), known)
        assert(
          named.some(fault => isNameOf(fault, key)),
          `${name} of ${key} was not found: ${named.join(', ') || 'nothing was'}`,
        )
      }
    }
    assert.deepEqual(await faultsOf(inMemory(objects), known), [])
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
    await small.storage.delete([layout.report('verify', report.id), layout.report('removal', 'x')])
  })

  test('a check of one backup does not hide what was there when all was checked', async () => {
    const [whole, one] = [await check(), await check({ id })]
    const reports = [whole, one].map(report => layout.report('verify', report.id))
    await small.repository.writeSigned(reports[0] as string, whole)
    await small.repository.writeSigned(reports[1] as string, one)
    const key = layout.point('before')
    const original = await small.storage.get(key)
    await small.storage.delete([key])
    const { faults } = await check()
    await small.storage.put(key, [original])
    await small.storage.delete(reports)
    assert.deepEqual(
      faults.map(fault => fault.object),
      [key],
    )
  })

  test('reads new backups at once and the rest by turns', async t => {
    const own = await SmallRepository.make()
    t.after(() => own.close())
    const first = await own.writeBackup('first', { segment: 5, finishedAt: '2026-11-20T14:31:00Z' })
    const segments = Array.from({ length: 20 }, (_, index) => [1, 5 + index] as const)
    await own.writeSegments(segments)
    await own.writeTail(1, 25, 500)
    const tail = layout.tail(system, segmentOf(1, 25), 0, 500)
    const keys = (markers: BackupMarker[]) => markers.flatMap(one => one.objects.map(object => object.key))
    const log = segments.map(one => layout.segment(system, segmentOf(...one)))

    const before = await readOn(own, 20)
    assert.deepEqual(before.report.wholeBackups, [first.id])
    assert.deepEqual(missingFrom(before.read, [...keys([first]), log[0] as string, tail]), [])
    assert(before.read.length < log.length, 'the log outside of the backup waits for its turn')
    await own.repository.writeSigned(layout.report('verify', before.report.id), before.report)

    const inTurn: string[] = []
    for (let day = 21; day < 28; day++) {
      const { read } = await readOn(own, day)
      assert(read.includes(tail), 'the open segment is always read')
      inTurn.push(...read.filter(key => key !== tail))
    }
    assert.deepEqual(inTurn.toSorted(), [...keys([first]), ...log].toSorted(), 'each once in seven days')

    const second = await own.writeBackup('second', { segment: 15, finishedAt: '2026-11-27T14:31:00Z' })
    const after = await readOn(own, 28)
    assert.deepEqual(after.report.wholeBackups, [second.id])
    assert.deepEqual(missingFrom(after.read, [...keys([second]), log[10] as string]), [])
    // What it read a week ago, and that.
    const again = (await readOn(own, 21)).read
    assert.deepEqual(after.read.toSorted(), [...new Set([...again, ...keys([second]), log[10]])].toSorted())
  })

  test('an object that is not due still has to be there, as long as it was', async () => {
    const [key = ''] = (await small.repository.backup(id)).objects.map(one => one.key)
    const report = await check()
    const reportKey = layout.report('verify', report.id)
    await small.repository.writeSigned(reportKey, report)
    const original = await small.storage.get(key)
    for (const bytes of [undefined, original.subarray(1)]) {
      if (bytes) await small.storage.put(key, [bytes])
      else await small.storage.delete([key])
      const { faults } = await check({ everyDays: 1_000_000 })
      assert.deepEqual(
        faults.map(one => one.object),
        [key],
      )
      await small.storage.put(key, [original])
    }
    await small.storage.delete([reportKey])
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

/** Only a data key, of which any recipient's file does, and the pieces of an open segment are named by their directory. */
function isNameOf(fault: string, key: string): boolean {
  const directory = key.slice(0, key.lastIndexOf('/') + 1)
  const isNamedWhole = key.startsWith(layout.dataKeys) || key.startsWith(layout.allTails)
  return fault === key || (isNamedWhole && fault === directory)
}

/** A check of a day in November with turns of seven days, and the sealed objects that it read to their end. */
async function readOn(own: SmallRepository, day: number): Promise<{ report: VerifyReport; read: string[] }> {
  const read: string[] = []
  const storage = inMemory(await objectsOf(own), (key, isWhole) => {
    if (isWhole && /^(backups|wal|tail)\//.test(key) && !key.endsWith('/COMPLETE')) read.push(key)
  })
  const { ring } = own.repository
  const repository = await Repository.open({ storage, ring, home: own.home, log: silentLog })
  const clock = { ...systemClock, now: () => new Date(`2026-11-${day}T03:00:00Z`) }
  const report = await verify({ repository, everyDays: 7, clock })
  assert.deepEqual(report.faults, [])
  return { report, read }
}

async function objectsOf({ storage }: SmallRepository): Promise<Map<string, Buffer>> {
  const objects = new Map<string, Buffer>()
  for await (const { key } of storage.list('')) objects.set(key, await storage.get(key))
  return objects
}

/** A storage to read from, which saves a disk's time for each of many damages. */
function inMemory(
  objects: ReadonlyMap<string, Buffer>,
  onGet: (key: string, isWhole: boolean) => void = () => {},
): Storage {
  const refuse = () => Promise.reject(new Error('a check writes nothing'))
  const info = (key: string, bytes: Buffer) => ({ key, bytes: bytes.length })
  return {
    description: 'memory',
    conditional: true,
    put: refuse,
    putNew: refuse,
    delete: refuse,
    get: async (key, options) => {
      onGet(key, options === undefined)
      const bytes = objects.get(key)
      if (!bytes) throw storageError('STORAGE_NOT_FOUND', { key, storage: 'memory' })
      const { offset = 0, length = bytes.length } = options ?? {}
      return Buffer.from(bytes.subarray(offset, offset + length))
    },
    head: async key => {
      const bytes = objects.get(key)
      return bytes && info(key, bytes)
    },
    list: async function* (prefix, { after = '' } = {}) {
      for (const key of [...objects.keys()].sort())
        if (key.startsWith(prefix) && key > after) yield info(key, objects.get(key) as Buffer)
    },
    close: async () => {},
  }
}

function missingFrom(read: readonly string[], wanted: readonly string[]): string[] {
  return wanted.filter(key => !read.includes(key))
}

/** Objects that a check names; a repository that cannot even be opened names its descriptor. */
async function faultsOf(storage: Storage, known: { lastReport: string }): Promise<string[]> {
  try {
    const { home } = small
    const repository = await Repository.open({ storage, ring: small.repository.ring, home, log: silentLog })
    const report = await verify({ repository, clock: systemClock, known })
    return report.faults.map(fault => fault.object)
  } catch (error) {
    const { facts } = error as { facts?: { object?: string } }
    return [facts?.object ?? layout.repository]
  }
}
