import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn, type Lsn, parseLsn, parseSegmentName } from '#lib/lsn.ts'
import { checkSegment, walPageBytes } from '#postgres/wire/wal-page.ts'
import type { SealPool } from '../envelope/pool.ts'
import { backupError } from '../errors.ts'
import { layout } from '../layout.ts'
import type { WalFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { restoreError } from './errors.ts'
import { faultIn } from './last-record.ts'
import { type SpooledPiece, SpoolReader } from './spooled.ts'
import { listTails, type StoredTail } from './tails.ts'
import type { Stretch } from './timelines.ts'
import { gap, type WalRange } from './wal-range.ts'
import type { WalSource } from './wal-server.ts'

export interface StoredWalOptions {
  repository: Repository
  pool: SealPool
  systemIdentifier: string
  segmentBytes: number
  /** Where the archive keeps what is not in the repository yet, if it is on this machine. */
  spool?: string | undefined
  path: readonly Stretch[]
  range: WalRange
  /** Nothing from there on is handed out: the log ends at this position. */
  until?: Lsn | undefined
  /** Told where a log ends that a power cut tore. */
  log?: Log | undefined
  /** How long to go on asking a storage that is away, in milliseconds; each wait is longer than the one before. */
  retryDelaysMs?: readonly number[]
}

/** A segment as it was handed out. */
export interface SegmentBytes {
  /** At full length. */
  bytes: Buffer
  /** Where what is known of it ends. */
  end: Lsn
  /** For people: object or file. */
  where: string
}

// An outage of half a minute does not end a restore of an hour.
const usualDelaysMs = [200, 500, 1_000, 2_000, 4_000, 8_000, 15_000]

// Many times what one write of the archive takes.
const writingMs = 500

/**
 * The write-ahead log of a restore, wherever it is: whole segments of the repository first, then what the archive has on
 * this disk or stored as tails, the longest of them. What was known of an open segment when it was first asked for stays
 * the answer, so that the end of the log stands still.
 */
export class StoredWal implements WalSource {
  readonly #o: StoredWalOptions
  readonly #spool: SpoolReader | undefined
  readonly #expected: ReadonlySet<string>
  readonly #open = new Map<string, SegmentBytes>()
  #end: Lsn

  constructor(options: StoredWalOptions) {
    this.#o = options
    const { spool: root, systemIdentifier, segmentBytes } = options
    this.#spool = root === undefined ? undefined : new SpoolReader({ root, systemIdentifier, segmentBytes })
    this.#expected = new Set(options.range.segments)
    this.#end = earliest(options.range.to, options.until)
  }

  /** How far the log is known to go: as planned, or further when it has grown since. */
  get end(): Lsn {
    return this.#end
  }

  async fetch(file: string): Promise<Buffer | undefined> {
    if (file.endsWith('.history')) return this.#history(Number.parseInt(file.slice(0, 8), 16))
    return (await this.segment(file))?.bytes
  }

  /** @throws BACKUP_WAL_GAP, BACKUP_OBJECT_DAMAGED, RESTORE_WAL_DAMAGED, what the storage says in the end */
  async segment(segment: string): Promise<SegmentBytes | undefined> {
    const known = this.#open.get(segment)
    if (known) return known
    const { start, end } = this.#boundsOf(segment)
    if (start >= (this.#o.until ?? end)) return undefined
    const found = await this.#find(segment)
    if (!found || this.#isBeforeSwitch(segment, found.end)) {
      this.#refuseHole(segment)
      return undefined
    }
    const answer = this.#cut(segment, found)
    if (answer.end < end) this.#open.set(segment, answer)
    if (answer.end > this.#end) this.#end = answer.end
    return answer
  }

  async #history(timeline: number): Promise<Buffer | undefined> {
    const { repository, systemIdentifier } = this.#o
    return (
      (await this.#patiently(() => repository.history(systemIdentifier, timeline))) ??
      (await this.#spool?.history(timeline))
    )
  }

  async #find(segment: string): Promise<SegmentBytes | undefined> {
    const stored = await this.#whole(segment)
    if (stored) return stored
    const [spooled, tail] = [await this.#spooled(segment), await this.#tail(segment)]
    const longest = !tail || (spooled && spooled.end >= tail.end) ? spooled : tail
    // The archive stores a segment before it removes it here, so what has gone meanwhile is in the repository.
    return longest ?? (await this.#whole(segment))
  }

  async #whole(segment: string): Promise<SegmentBytes | undefined> {
    const { repository, systemIdentifier, pool } = this.#o
    const object = layout.segment(systemIdentifier, segment)
    const read = await this.#patiently(() => repository.readSealed(object, { pool }).catch(unlessMissing))
    if (!read) return undefined
    const end = this.#factsOf(read.header.facts as WalFacts, segment, object)
    return this.#checked(segment, { bytes: read.bytes, end, where: object })
  }

  async #spooled(segment: string): Promise<SegmentBytes | undefined> {
    const piece = await this.#spoolPiece(segment)
    if (!piece) return undefined
    const { file, bytes, end } = piece
    const reason = this.#faultOf(piece, segment)
    if (reason !== undefined) throw restoreError('RESTORE_WAL_DAMAGED', { object: file, reason })
    if (piece.isTorn)
      this.#o.log?.warn(
        { file, lsn: formatLsn(end) },
        'WAL on this disk ends where a power cut tore it: nothing from there on was confirmed',
      )
    return { bytes, end, where: file }
  }

  /** Unlike the repository's objects nobody signed it: only its records tell whether it is as it was received. */
  #faultOf(piece: SpooledPiece, segment: string): string | undefined {
    const { bytes, end, flushed, isTorn } = piece
    const { start } = this.#boundsOf(segment)
    const { segmentBytes } = this.#o
    const reason = this.#misfitOf(segment, piece) ?? faultIn(bytes, { start, segmentBytes, end })
    if (reason !== undefined || isTorn || flushed === undefined) return reason
    // The header of a page may have come alone; see knownPages.
    const isShort = flushed > start + BigInt(bytes.length + walPageBytes)
    return isShort ? `it ends at ${formatLsn(end)} and was on disk up to ${formatLsn(flushed)}` : undefined
  }

  /** The archive may be writing just what is read here; then a moment later it is whole. */
  async #spoolPiece(segment: string): Promise<SpooledPiece | undefined> {
    const piece = await this.#spool?.read(segment)
    if (!piece || !(piece.isTorn || this.#faultOf(piece, segment) !== undefined)) return piece
    await delay(writingMs)
    return this.#spool?.read(segment)
  }

  async #tail(segment: string): Promise<SegmentBytes | undefined> {
    const { repository, systemIdentifier, segmentBytes } = this.#o
    const tails = await this.#patiently(() => listTails(repository, systemIdentifier, segmentBytes, segment))
    const tail = tails.get(segment)
    if (!tail || tail.parts.length === 0) return undefined
    const bytes = Buffer.alloc(Number(tail.end - tail.start))
    for (const part of tail.parts) await this.#readPart(tail, part, bytes)
    return this.#checked(segment, { bytes, end: tail.end, where: layout.tails(systemIdentifier, segment) })
  }

  async #readPart(tail: StoredTail, part: StoredTail['parts'][number], into: Buffer): Promise<void> {
    const { repository, pool } = this.#o
    const read = await this.#patiently(() => repository.readSealed(part.key, { pool }))
    if (read.bytes.length !== part.to - part.from) {
      const reason = `it holds ${read.bytes.length} bytes instead of ${part.to - part.from}`
      throw backupError('BACKUP_OBJECT_DAMAGED', { object: part.key, reason })
    }
    this.#factsOf(read.header.facts as WalFacts, tail.segment, part.key)
    read.bytes.copy(into, part.from)
  }

  /** Where the object says that its bytes end. */
  #factsOf(facts: WalFacts, segment: string, object: string): Lsn {
    const end = parseLsn(facts.end)
    const fits = facts.systemIdentifier === this.#o.systemIdentifier && facts.segment === segment
    if (!fits || end === undefined)
      throw backupError('BACKUP_OBJECT_DAMAGED', { object, reason: 'it is of another segment' })
    return end
  }

  /** Why it is another segment than it is taken for. */
  #misfitOf(segment: string, found: { bytes: Buffer; end: Lsn }): string | undefined {
    const { systemIdentifier, segmentBytes } = this.#o
    const { timeline, start } = this.#boundsOf(segment)
    return checkSegment(found.bytes, { systemIdentifier, timeline, start, segmentBytes, end: found.end })
  }

  #checked(segment: string, found: SegmentBytes): SegmentBytes {
    const reason = this.#misfitOf(segment, found)
    if (reason !== undefined) throw restoreError('RESTORE_WAL_DAMAGED', { object: found.where, reason })
    return found
  }

  /** What ends before its timeline begins is only a copy of the older one, which goes on further. */
  #isBeforeSwitch(segment: string, end: Lsn): boolean {
    const { timeline } = this.#boundsOf(segment)
    const stretch = this.#o.path.find(one => one.timeline === timeline)
    return stretch !== undefined && end <= stretch.from
  }

  /**
   * At full length. What a timeline holds beyond the position where it was left belongs to no one; what lies beyond the
   * target is as if it had not come yet.
   */
  #cut(segment: string, found: SegmentBytes): SegmentBytes {
    const { path, until, segmentBytes } = this.#o
    const { timeline, start } = this.#boundsOf(segment)
    const left = path.find(one => one.timeline === timeline)?.until
    const end = earliest(found.end, left, until)
    const bytes =
      until !== undefined && until < found.end ? found.bytes.subarray(0, Number(until - start)) : found.bytes
    if (bytes.length === segmentBytes) return { ...found, end }
    return { ...found, end, bytes: Buffer.concat([bytes, Buffer.alloc(segmentBytes - bytes.length)]) }
  }

  #refuseHole(segment: string): void {
    const { range } = this.#o
    const { start, end, timeline } = this.#boundsOf(segment)
    if (this.#expected.has(segment)) throw gap({ from: start, to: end, timeline })
    const { hole } = range
    const onPath = this.#o.path.some(one => one.timeline === timeline)
    if (hole && onPath && timeline === hole.timeline && end > hole.from && start < hole.to) throw gap(hole)
  }

  #boundsOf(segment: string): { timeline: number; start: Lsn; end: Lsn } {
    const { segmentBytes } = this.#o
    const parsed = parseSegmentName(segment, segmentBytes)
    if (!parsed) throw new Error(`${segment} is no segment of ${segmentBytes} bytes`)
    return { ...parsed, end: parsed.start + BigInt(segmentBytes) }
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (const waitMs of this.#o.retryDelaysMs ?? usualDelaysMs) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof Failure && error.row.retry)) throw error
        await delay(waitMs, undefined, { ref: false })
      }
    }
    return work()
  }
}

function earliest(first: Lsn, ...others: (Lsn | undefined)[]): Lsn {
  let least = first
  for (const one of others) if (one !== undefined && one < least) least = one
  return least
}

function unlessMissing(error: unknown): undefined {
  const missing = error instanceof Failure && /^(BACKUP_OBJECT_MISSING|STORAGE_NOT_FOUND)$/.test(error.code)
  if (!missing) throw error
}
