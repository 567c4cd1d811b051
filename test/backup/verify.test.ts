import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { SealPool } from '#backup/envelope/pool.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { layout } from '#backup/layout.ts'
import {
  type BackupMarker,
  formatVersion,
  type ObjectFacts,
  type SealedFacts,
  type VerifyReport,
} from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { type VerifyOptions, verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { formatLsn, segmentName } from '#lib/lsn.ts'
import { openStorage } from '#storage/open.ts'
import type { Storage } from '#storage/storage.ts'

const system = '7711677056603304589'
const segmentBytes = 1024 * 1024
const id = '20261124T143000Z-full-1a2b3c'
const at = (segment: number, offset = 0) => BigInt(segment) * BigInt(segmentBytes) + BigInt(offset)

let root: string
let storage: Storage
let repository: Repository
let pool: SealPool
const directory = () => mkdtempSync(join(tmpdir(), 'verify-'))

/** A repository as the pillar makes it, with small contents: one backup, its log over a timeline switch, a point, a pin. */
before(async () => {
  root = directory()
  const home = openHome(join(root, 'home'))
  ensureBackupKeys({ home, chain: 'simulated' })
  storage = await openStorage({ url: pathToFileURL(join(root, 'repository')).href, log: silentLog })
  repository = await Repository.create({ storage, home })
  pool = new SealPool({ threads: 1 })
  await writeBackup()
  await writeLog()
  const base = { format: formatVersion, repositoryId: repository.id, at: '2026-11-24T14:30:00Z' }
  await repository.writeSigned(layout.point('before'), {
    ...base,
    name: 'before',
    systemIdentifier: system,
    timeline: 1,
    lsn: '0/700000',
  })
  await repository.writeSigned(layout.pin(id), { ...base, backupId: id, reason: 'test' })
})

after(async () => {
  await pool.close()
  await storage.close()
  rmSync(root, { recursive: true, force: true })
})

async function writeBackup(): Promise<void> {
  const dataKey = await repository.newDataKey()
  const objects: ObjectFacts[] = []
  const put = async (object: string, kind: 'pack' | 'manifest' | 'files', bytes: Buffer) => {
    const pack = { backupId: id, archive: 'base', offset: 0, bytes: bytes.length }
    const facts: SealedFacts = kind === 'pack' ? pack : {}
    const written = await repository.writeSealed({ object, kind, facts, dataKey, bytes, pool })
    objects.push({ key: object, bytes: written.bytes, sha256: written.sha256 })
  }
  await put(layout.pack(id, 'base', 0), 'pack', Buffer.alloc(5000, 'a'))
  await put(layout.pack(id, 'base', 1), 'pack', Buffer.alloc(5000, 'b'))
  await put(layout.manifest(id), 'manifest', Buffer.from('{}'))
  await put(layout.files(id), 'files', Buffer.alloc(2000, 'c'))
  const marker: BackupMarker = {
    format: formatVersion,
    repositoryId: repository.id,
    id,
    kind: 'full',
    program: 'test',
    startedAt: '2026-11-24T14:30:00Z',
    finishedAt: '2026-11-24T14:31:00Z',
    objects,
    dataKeys: [dataKey.id],
    rawBytes: 1,
    storedBytes: 1,
    database: {
      systemIdentifier: system,
      serverVersion: 180004,
      segmentBytes,
      timeline: 1,
      start: formatLsn(at(5, 40)),
      stop: formatLsn(at(5, 300)),
      stopTimeline: 1,
      startTime: '2026-11-24T14:30:00Z',
      stopTime: '2026-11-24T14:31:00Z',
      checksums: true,
      manifestObject: layout.manifest(id),
      archives: [],
    },
  }
  await repository.writeSigned(layout.complete(id), marker)
}

async function writeLog(): Promise<void> {
  const dataKey = await repository.newDataKey()
  const facts = (timeline: number, segment: number, from = 0, to = segmentBytes) => ({
    systemIdentifier: system,
    timeline,
    segment: segmentName(timeline, at(segment), segmentBytes),
    segmentBytes,
    start: formatLsn(at(segment, from)),
    end: formatLsn(at(segment, to)),
  })
  for (const [timeline, segment] of [
    [1, 5],
    [1, 6],
    [2, 7],
    [2, 8],
  ] as const) {
    const object = layout.segment(system, segmentName(timeline, at(segment), segmentBytes))
    await repository.writeSealed({
      object,
      kind: 'wal',
      facts: facts(timeline, segment),
      dataKey,
      bytes: Buffer.alloc(4000, segment),
      pool,
    })
  }
  await repository.writeSealed({
    object: layout.history(system, 2),
    kind: 'history',
    facts: { systemIdentifier: system, timeline: 2, parents: [{ timeline: 1, end: formatLsn(at(7, 50)) }] },
    dataKey,
    bytes: Buffer.from('1\t0/700032\tno recovery target specified\n'),
    pool,
  })
  const open = segmentName(2, at(9), segmentBytes)
  await repository.writeSealed({
    object: layout.tail(system, open, 0, 500),
    kind: 'wal-tail',
    facts: facts(2, 9, 0, 500),
    dataKey,
    bytes: Buffer.alloc(500, 9),
    pool,
  })
}

function check(options: Partial<VerifyOptions> = {}): Promise<VerifyReport> {
  return verify({ repository, clock: systemClock, ...options })
}

async function objects(): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of storage.list('')) keys.push(key)
  return keys
}

describe('verify', () => {
  test('finds a whole repository whole, sealed and opened, and how far its log goes', async () => {
    for (const options of [{}, { pool }]) {
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
    await repository.writeSigned(layout.report('verify', report.id), report)
    const all = await objects()
    assert(all.length > 15, `only ${all.length} objects`)
    const known = { lastReport: layout.report('verify', report.id) }
    for (const [index, key] of all.entries()) {
      // A reader's or a holder's word is not part of what is kept.
      if (key.startsWith('locks/') || key.startsWith('readers/')) continue
      const original = await storage.get(key)
      const other = await storage.get(all[(index + 1) % all.length] as string)
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
        if (bytes) await storage.put(key, [bytes])
        else await storage.delete([key])
        const named = await faultsOf(known)
        assert(
          named.some(fault => fault === key || fault.startsWith(key) || key.startsWith(fault)),
          `${name} of ${key} was not found: ${named.join(', ') || 'nothing was'}`,
        )
        await storage.put(key, [original])
      }
    }
    const last = await check({ known })
    assert.deepEqual(last.faults, [])
    await storage.delete([layout.report('verify', report.id)])
  })

  test('a backup of which the log has a hole is not whole', async () => {
    const key = layout.segment(system, segmentName(2, at(7), segmentBytes))
    const original = await storage.get(key)
    await storage.delete([key])
    const report = await check()
    await storage.put(key, [original])
    assert.deepEqual(report.wholeBackups, [])
    assert.deepEqual(report.faults, [{ object: key, problem: 'missing', reason: 'the log has a hole here' }])
  })

  test('what was removed on purpose is not missed', async () => {
    const report = await check()
    await repository.writeSigned(layout.report('verify', report.id), report)
    const key = layout.pin(id)
    const original = await storage.get(key)
    await storage.delete([key])
    assert.deepEqual(
      (await check()).faults.map(one => one.object),
      [key],
    )
    const removal = { format: 1, repositoryId: repository.id, kind: 'removal', at: new Date().toISOString() }
    await repository.writeSigned(layout.report('removal', 'x'), { ...removal, backups: [], objects: [key] })
    assert.deepEqual((await check()).faults, [])
    await storage.put(key, [original])
  })

  test('reads new backups at once and the rest by turns', async () => {
    for (const key of await objects()) if (key.startsWith(layout.allReports)) await storage.delete([key])
    const first = await check({ everyDays: 7 })
    assert(first.objects >= 4, 'a backup that nobody has read is read whole')
    assert.deepEqual(first.wholeBackups, [id])
  })
})

/** Objects that a check names; a repository that cannot even be opened names its descriptor. */
async function faultsOf(known: { lastReport: string }): Promise<string[]> {
  try {
    const { ring } = repository
    const again = await Repository.open({ storage, ring, home: openHome(join(root, 'home')), log: silentLog })
    const report = await verify({ repository: again, clock: systemClock, known })
    return report.faults.map(fault => fault.object)
  } catch (error) {
    const { facts } = error as { facts?: { object?: string } }
    return [facts?.object ?? layout.repository]
  }
}
