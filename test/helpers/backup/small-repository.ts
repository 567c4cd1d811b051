import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { SealPool } from '#backup/envelope/pool.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { layout } from '#backup/layout.ts'
import { type BackupMarker, formatVersion, type ObjectFacts, type SealedFacts } from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { type Home, openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { formatLsn, segmentName } from '#lib/lsn.ts'
import { pageFlag, walPageBytes } from '#postgres/wire/wal-page.ts'
import { openStorage } from '#storage/open.ts'
import type { Storage } from '#storage/storage.ts'

export const system = '7711677056603304589'
const segmentBytes = 1024 * 1024

/** The position of a byte of a segment, by its number. */
export const at = (segment: number, offset = 0): bigint =>
  BigInt(segment) * BigInt(segmentBytes) + BigInt(offset)

export const segmentOf = (timeline: number, segment: number): string =>
  segmentName(timeline, at(segment), segmentBytes)

/** A repository with contents of a few kilobytes, sealed and signed as real ones are. */
export class SmallRepository {
  readonly root: string
  readonly home: Home
  readonly storage: Storage
  readonly repository: Repository
  readonly pool: SealPool

  private constructor(o: Pick<SmallRepository, 'root' | 'home' | 'storage' | 'repository' | 'pool'>) {
    this.root = o.root
    this.home = o.home
    this.storage = o.storage
    this.repository = o.repository
    this.pool = o.pool
  }

  static async make(): Promise<SmallRepository> {
    const root = mkdtempSync(join(tmpdir(), 'small-repository-'))
    const home = openHome(join(root, 'home'))
    ensureBackupKeys({ home, chain: 'simulated' })
    const url = pathToFileURL(join(root, 'repository')).href
    const storage = await openStorage({ url, log: silentLog })
    const repository = await Repository.create({ storage, home })
    return new SmallRepository({ root, home, storage, repository, pool: new SealPool({ threads: 1 }) })
  }

  async close(): Promise<void> {
    await this.pool.close()
    await this.storage.close()
    rmSync(this.root, { recursive: true, force: true })
  }

  async keys(): Promise<string[]> {
    const keys: string[] = []
    for await (const { key } of this.storage.list('')) keys.push(key)
    return keys
  }

  /** A full backup that begins and ends in one segment of timeline 1. */
  async writeBackup(id: string, o: { segment: number; finishedAt: string }): Promise<BackupMarker> {
    const { repository, pool } = this
    const dataKey = await repository.newDataKey()
    const objects: ObjectFacts[] = []
    const put = async (object: string, kind: 'pack' | 'manifest' | 'files', bytes: Buffer) => {
      const facts: SealedFacts = kind === 'pack' ? { backupId: id, archive: 'base', offset: 0 } : {}
      const written = await repository.writeSealed({ object, kind, facts, dataKey, bytes, pool })
      objects.push({ key: object, bytes: written.bytes, sha256: written.sha256 })
    }
    await put(layout.pack(id, 'base', 0), 'pack', Buffer.alloc(5000, 'a'))
    await put(layout.pack(id, 'base', 1), 'pack', Buffer.alloc(5000, 'b'))
    await put(layout.manifest(id), 'manifest', Buffer.from('{}'))
    await put(layout.files(id), 'files', Buffer.alloc(2000, 'c'))
    const { finishedAt } = o
    const marker: BackupMarker = {
      format: formatVersion,
      repositoryId: repository.id,
      id,
      kind: 'full',
      program: 'test',
      startedAt: finishedAt,
      finishedAt,
      objects,
      dataKeys: [dataKey.id],
      rawBytes: 1,
      storedBytes: 1,
      database: {
        systemIdentifier: system,
        serverVersion: 180004,
        segmentBytes,
        timeline: 1,
        start: formatLsn(at(o.segment, 40)),
        stop: formatLsn(at(o.segment, 300)),
        stopTimeline: 1,
        startTime: finishedAt,
        stopTime: finishedAt,
        checksums: true,
        manifestObject: layout.manifest(id),
        archives: [],
      },
    }
    await repository.writeSigned(layout.complete(id), marker)
    return marker
  }

  /** Whole segments as [timeline, number]; they hold what they should unless another content is given. */
  async writeSegments(segments: readonly (readonly [number, number])[], content = walPages): Promise<void> {
    const { repository, pool } = this
    const dataKey = await repository.newDataKey()
    for (const [timeline, segment] of segments) {
      const object = layout.segment(system, segmentOf(timeline, segment))
      const facts = walFacts(timeline, segment, 0, segmentBytes)
      await repository.writeSealed({
        object,
        kind: 'wal',
        facts,
        dataKey,
        bytes: content(timeline, segment),
        pool,
      })
    }
  }

  /** A part of an open segment, from its beginning unless told otherwise. */
  async writeTail(
    timeline: number,
    segment: number,
    end: number,
    o: { from?: number; content?: typeof walPages } = {},
  ): Promise<void> {
    const { from = 0, content = walPages } = o
    const { repository, pool } = this
    const dataKey = await repository.newDataKey()
    await repository.writeSealed({
      object: layout.tail(system, segmentOf(timeline, segment), from, end),
      kind: 'wal-tail',
      facts: walFacts(timeline, segment, from, end),
      dataKey,
      bytes: content(timeline, segment).subarray(from, end),
      pool,
    })
  }

  async writeHistory(timeline: number, parents: readonly { timeline: number; end: bigint }[]): Promise<void> {
    const { repository, pool } = this
    const lines = parents.map(one => `${one.timeline}\t${formatLsn(one.end)}\tno recovery target specified\n`)
    await repository.writeSealed({
      object: layout.history(system, timeline),
      kind: 'history',
      facts: {
        systemIdentifier: system,
        timeline,
        parents: parents.map(one => ({ timeline: one.timeline, end: formatLsn(one.end) })),
      },
      dataKey: await repository.newDataKey(),
      bytes: Buffer.from(lines.join('')),
      pool,
    })
  }
}

/** A segment as a server of PostgreSQL 18 writes it, seen from the headers of its pages. */
export function walPages(timeline: number, segment: number): Buffer {
  const bytes = Buffer.alloc(segmentBytes, segment)
  for (let offset = 0; offset < segmentBytes; offset += walPageBytes) {
    const isFirst = offset === 0
    bytes.fill(0, offset, offset + (isFirst ? 40 : 24))
    bytes.writeUInt16LE(0xd118, offset)
    bytes.writeUInt16LE(isFirst ? pageFlag.longHeader : 0, offset + 2)
    bytes.writeUInt32LE(timeline, offset + 4)
    bytes.writeBigUInt64LE(at(segment, offset), offset + 8)
  }
  bytes.writeBigUInt64LE(BigInt(system), 24)
  bytes.writeUInt32LE(segmentBytes, 32)
  bytes.writeUInt32LE(walPageBytes, 36)
  return bytes
}

function walFacts(timeline: number, segment: number, from: number, to: number): SealedFacts {
  return {
    systemIdentifier: system,
    timeline,
    segment: segmentOf(timeline, segment),
    segmentBytes,
    start: formatLsn(at(segment, from)),
    end: formatLsn(at(segment, to)),
  }
}
