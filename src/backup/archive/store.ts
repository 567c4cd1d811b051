import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { Failure } from '#lib/errors.ts'
import { writeDurably } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn, historyName, type Lsn, parseSegmentName } from '#lib/lsn.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { DataKey } from '../keys/data-keys.ts'
import { layout } from '../layout.ts'
import type { HistoryFacts, SealedFacts, SealedKind, WalFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { listTails, type StoredTail } from '../restore/tails.ts'
import { archiveError } from './errors.ts'
import { historyFacts } from './history.ts'
import type { Position } from './position.ts'
import type { Spool } from './spool.ts'
import { keyName, type SpooledSegment } from './spool-directory.ts'

/** Objects hold at most 64 MiB; what is read at once stays small. */
const tailBytes = 16 * 1024 * 1024

interface NewObject {
  object: string
  kind: SealedKind
  facts: SealedFacts
  bytes: Buffer
}

/** The archive's objects in the repository. Nothing is written twice: what is there already is compared. */
export class ArchiveStore {
  readonly #repository: Repository
  readonly #pool: SealPool
  readonly #spool: Spool
  readonly #log: Log
  #dataKey: DataKey | undefined
  #keyTurn: Promise<unknown> = Promise.resolve()
  /** Timelines whose history is there. */
  readonly #histories = new Set([1])
  /** How far tails of a segment go without a hole, as offset, once they are known to be what is here. */
  #tail = { segment: '', end: 0 }

  constructor(o: { repository: Repository; pool: SealPool; spool: Spool; log: Log }) {
    this.#repository = o.repository
    this.#pool = o.pool
    this.#spool = o.spool
    this.#log = o.log
  }

  /** @throws ARCHIVE_WRONG_SYSTEM when the repository keeps another database's WAL */
  async checkSystem(): Promise<void> {
    const { systemIdentifier } = this.#spool
    const other = (await this.#repository.systems()).find(system => system !== systemIdentifier)
    if (other === undefined) return
    const place = this.#repository.storage.description
    throw archiveError('ARCHIVE_WRONG_SYSTEM', { systemIdentifier, place, other })
  }

  /**
   * Where the whole segments of the repository end, or the segment begins of which only tails are there; `end` is that
   * of the tails. A server that has not come that far is not the one that was archived, or was set back.
   */
  async lastStored(): Promise<(Position & { end: Lsn }) | undefined> {
    const { systemIdentifier, segmentBytes } = this.#spool
    const tails = (await listTails(this.#repository, systemIdentifier, segmentBytes)).values().toArray()
    const timelines = await this.#repository.timelines(systemIdentifier)
    const known = new Set([...timelines, ...tails.map(tail => tail.timeline)])
    for (const timeline of [...known].sort((a, b) => b - a)) {
      const whole = await this.#endOfSegments(timeline)
      const tail = tails.findLast(one => one.timeline === timeline && one.end > one.start)
      const lsn = whole ?? tail?.start
      if (lsn !== undefined) return { timeline, lsn, end: tail && tail.end > lsn ? tail.end : lsn }
    }
    return undefined
  }

  async #endOfSegments(timeline: number): Promise<Lsn | undefined> {
    const { systemIdentifier, segmentBytes } = this.#spool
    let last: string | undefined
    for await (const { segment } of this.#repository.segments(systemIdentifier, timeline)) last = segment
    const parsed = last === undefined ? undefined : parseSegmentName(last, segmentBytes)
    return parsed && parsed.start + BigInt(segmentBytes)
  }

  /** From the next object on, another data key. */
  rotateKey(): Promise<DataKey> {
    return this.#inTurn(() => this.#newKey())
  }

  /** A whole segment, after the history of its timeline; its tails go. */
  async putSegment(one: SpooledSegment): Promise<void> {
    await this.#putHistory(one.timeline)
    const { segmentBytes, systemIdentifier } = this.#spool
    await this.#tailEnd(one, segmentBytes)
    const bytes = await this.#spool.read(one, { from: 0, to: segmentBytes })
    await this.#put(one, {
      object: layout.segment(systemIdentifier, one.segment),
      kind: 'wal',
      facts: this.#facts(one, { from: 0, to: segmentBytes }),
      bytes,
    })
    await this.#deleteTails(one.segment)
  }

  /**
   * What of the segment no tail holds, up to the offset; answers whether there was anything.
   * @throws ARCHIVE_SEGMENT_CONFLICT when tails hold other bytes than are here
   */
  async putTail(one: SpooledSegment, to: number, o: { isClosed?: boolean } = {}): Promise<boolean> {
    let from = await this.#tailEnd(one, to)
    if (from >= to) return false
    await this.#putHistory(one.timeline)
    while (from < to) {
      const end = Math.min(to, from + tailBytes)
      const range = { from, to: end }
      const facts = this.#facts(one, range)
      await this.#put(one, {
        object: layout.tail(this.#spool.systemIdentifier, one.segment, from, end),
        kind: 'wal-tail',
        facts: o.isClosed && end === to ? { ...facts, closedBySwitch: true } : facts,
        bytes: await this.#spool.read(one, range),
      })
      this.#tail = { segment: one.segment, end }
      from = end
    }
    return true
  }

  /**
   * How far the repository's tails of this segment go, as offset. Those of an earlier process are read: one that had a
   * spool and a server which are both gone may have stored another history, and the two must not be mixed.
   */
  async #tailEnd(one: SpooledSegment, to: number): Promise<number> {
    if (this.#tail.segment === one.segment) return this.#tail.end
    const { systemIdentifier, segmentBytes } = this.#spool
    const tails = await listTails(this.#repository, systemIdentifier, segmentBytes, one.segment)
    const tail = tails.get(one.segment)
    const damaged: StoredTail['parts'] = []
    for (const part of tail?.parts ?? [])
      if (part.from < to && (await this.#compareTail(one, part, to)) === 'damaged') damaged.push(part)
    if (damaged.length > 0) {
      this.#log.warn({ objects: damaged.map(part => part.key) }, 'damaged tails of WAL are stored again')
      await this.#repository.storage.delete(damaged.map(part => part.key))
    }
    const end = damaged[0]?.from ?? Number((tail?.end ?? one.start) - one.start)
    // What goes further than this spool yet is compared when the spool has come there.
    if (end <= to) this.#tail = { segment: one.segment, end }
    return end
  }

  async #compareTail(
    one: SpooledSegment,
    part: StoredTail['parts'][number],
    to: number,
  ): Promise<'same' | 'damaged'> {
    const bytes = await this.#spool.read(one, { from: part.from, to: Math.min(part.to, to) })
    const stored = { object: part.key, kind: 'wal-tail' as const, facts: this.#facts(one, part), bytes }
    const found = await this.#compare(stored, { isCut: part.to > to })
    if (typeof found === 'object') throw this.#conflict(one, part.key, found.other)
    return found
  }

  async #deleteTails(segment: string): Promise<void> {
    const keys: string[] = []
    for await (const { key } of this.#repository.storage.list(
      layout.tails(this.#spool.systemIdentifier, segment),
    ))
      keys.push(key)
    if (keys.length > 0) await this.#repository.storage.delete(keys)
  }

  /** A restore could not choose the timeline without it. The receiver put the file there before any of its WAL. */
  async #putHistory(timeline: number): Promise<void> {
    if (this.#histories.has(timeline)) return
    const { systemIdentifier } = this.#spool
    const path = this.#spool.pathFor(historyName(timeline))
    const bytes = await readFile(path)
    await this.#put(
      { segment: historyName(timeline) },
      {
        object: layout.history(systemIdentifier, timeline),
        kind: 'history',
        facts: historyFacts(systemIdentifier, timeline, bytes),
        bytes,
      },
    )
    this.#histories.add(timeline)
  }

  async #put(one: { segment: string }, o: NewObject): Promise<void> {
    if (await this.#putNew(o)) return
    const found = await this.#compare(o)
    if (found === 'same') return
    if (found === 'damaged') return this.#replace(o)
    throw this.#conflict(one, o.object, found.other)
  }

  #conflict(one: { segment: string }, object: string, reason: string) {
    return archiveError('ARCHIVE_SEGMENT_CONFLICT', {
      file: this.#spool.pathFor(one.segment),
      object,
      reason,
    })
  }

  /** False when there is one already. */
  async #putNew(o: NewObject): Promise<boolean> {
    const dataKey = await this.#currentKey()
    const { created, bytes } = await this.#repository.writeSealed({ ...o, dataKey, pool: this.#pool })
    if (!created) return false
    // The spool's copy is freed next: a store that took only a part must not be believed.
    const stored = await this.#repository.storage.head(o.object)
    if (stored?.bytes !== bytes)
      throw archiveError('ARCHIVE_STORED_SHORT', { object: o.object, bytes, stored: stored?.bytes ?? 0 })
    return true
  }

  /** What is there was written by no one as it is; here is what belongs there. */
  async #replace(o: NewObject): Promise<void> {
    this.#log.warn({ object: o.object }, 'a damaged WAL object was replaced')
    await this.#repository.storage.delete([o.object])
    if (!(await this.#putNew(o)))
      throw archiveError('ARCHIVE_STORED_SHORT', { object: o.object, bytes: o.bytes.length, stored: 0 })
  }

  /** `isCut` when what is here is only the beginning of what is there. */
  async #compare(
    o: NewObject,
    { isCut = false }: { isCut?: boolean } = {},
  ): Promise<'same' | 'damaged' | { other: string }> {
    const { bytes } = o
    try {
      const whole = await this.#read(o)
      const stored = isCut ? whole.subarray(0, bytes.length) : whole
      if (stored.equals(bytes)) return 'same'
      if (stored.length !== bytes.length)
        return { other: `${stored.length} bytes there, ${bytes.length} here` }
      const first = stored.findIndex((byte, i) => byte !== bytes[i])
      return { other: `the first other byte is at offset ${first}` }
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      if (error.code === 'BACKUP_OBJECT_DAMAGED') return 'damaged'
      if (error.code === 'BACKUP_KEY_NEEDED') return this.#compareFacts(o)
      throw error
    }
  }

  /**
   * Of an object whose key this home has let go of, its signed header: our repository's signature says that an archive
   * of ours stored the same stretch of the same log. Waiting for a key that is kept in a safe would end the archive.
   */
  async #compareFacts({ object, kind, facts }: NewObject): Promise<'same' | { other: string }> {
    const header = await this.#repository.checkSealed(object)
    if (header.kind !== kind || !isDeepStrictEqual(placeOf(header.facts), placeOf(facts)))
      return { other: 'it is of another stretch of the log' }
    const { dataKey } = header
    this.#log.warn(
      { object, dataKey },
      'stored WAL was taken for the same by its signed facts: its key is not here',
    )
    return 'same'
  }

  /** A history was often sealed with the key of a chain that this home has let go of. */
  async #read({ object, kind, facts }: NewObject): Promise<Buffer> {
    if (kind !== 'history') return (await this.#repository.readSealed(object, { pool: this.#pool })).bytes
    const { systemIdentifier, timeline } = facts as HistoryFacts
    return (await this.#repository.history(systemIdentifier, timeline)) ?? Buffer.alloc(0)
  }

  /** The key of the last run, when this repository has it wrapped: else nobody could open the object without this home. */
  async #currentKey(): Promise<DataKey> {
    return this.#dataKey ?? this.#inTurn(async () => this.#dataKey ?? (await this.#lastKey()))
  }

  /** One after the other: a key that was found late must not take the place of one that a backup has asked for. */
  #inTurn(work: () => Promise<DataKey>): Promise<DataKey> {
    const turn = this.#keyTurn.then(work)
    this.#keyTurn = turn.catch(() => {})
    return turn
  }

  async #newKey(): Promise<DataKey> {
    const key = await this.#repository.newDataKey()
    writeDurably(this.#keyPath, key.id)
    this.#dataKey = key
    return key
  }

  async #lastKey(): Promise<DataKey> {
    const id = existsSync(this.#keyPath) ? readFileSync(this.#keyPath, 'utf8').trim() : ''
    const known = id === '' ? undefined : this.#repository.ring.get(id)
    if (known) {
      for await (const _ of this.#repository.storage.list(`${layout.dataKeys}${id}/`)) {
        this.#dataKey = known
        return known
      }
    }
    return this.#newKey()
  }

  get #keyPath(): string {
    return this.#spool.pathFor(keyName)
  }

  #facts(one: SpooledSegment, range: { from: number; to: number }): WalFacts {
    const { systemIdentifier, segmentBytes } = this.#spool
    return {
      systemIdentifier,
      timeline: one.timeline,
      segment: one.segment,
      segmentBytes,
      start: formatLsn(one.start + BigInt(range.from)),
      end: formatLsn(one.start + BigInt(range.to)),
    }
  }
}

/** Which stretch of which log. */
function placeOf(facts: SealedFacts): Partial<WalFacts & HistoryFacts> {
  const { systemIdentifier, timeline, segment, start, end, parents } = facts as Partial<
    WalFacts & HistoryFacts
  >
  return { systemIdentifier, timeline, segment, start, end, parents }
}
