import { crc32c } from '@node-rs/crc32'
import type { Lsn } from '#lib/lsn.ts'
import { postgresEpochMicroseconds } from './messages.ts'
import {
  isZero,
  longHeaderBytes,
  type PageHeader,
  pageFlag,
  readPageHeader,
  shortHeaderBytes,
  walPageBytes,
} from './wal-page.ts'

/** What the records of a stretch of WAL amount to. */
export interface WalSummary {
  /** Behind the last whole record, as pg_last_wal_replay_lsn() says it; the start when there is none. */
  lastRecordEnd: Lsn
  records: number
  /** Server's clock in the first and last record that ended a transaction. */
  firstCommitAt?: Date
  lastCommitAt?: Date
  /** Where something stands that is neither a record nor the zeros behind the last one; nothing after it was read. */
  brokenAt?: Lsn
  /** What is wrong there. */
  brokenBecause?: string
  /** Whether the last record closes its segment: zeros up to the segment's end are meant. */
  endsWithSwitch: boolean
}

export interface WalStretch {
  /** Of the first byte; at the begin of a page. */
  start: Lsn
  segmentBytes: number
  /** Where to begin, when records before it do not matter; else the first record that begins in the stretch. */
  firstRecord?: Lsn
}

/** All at once. */
export function walkRecords(bytes: Uint8Array, stretch: WalStretch): WalSummary {
  const reader = new WalRecordReader(stretch)
  reader.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  return reader.end()
}

// XLogRecord (xlogrecord.h): total length, xid, previous record, info, resource manager, checksum.
const recordHeaderBytes = 24
const checksumAt = 20
// XLogRecordMaxSize.
const mostRecordBytes = 1020 * 1024 * 1024
// Headers of the main data and the first field of a commit lie within it.
const bodyHeadBytes = 64
const resourceManager = { xlog: 0, transaction: 1 } as const
const switchInfo = 0x40
/** XLOG_XACT_COMMIT, _ABORT, _COMMIT_PREPARED, _ABORT_PREPARED. */
const endings = new Set([0x00, 0x20, 0x30, 0x40])

/**
 * Reads WAL record by record as it is pushed, over pages and segments, and checks each by its CRC-32C, its length, and
 * its pointer to the one before (xlogreader.c). It keeps one page and the head of one record, whatever their size.
 */
export class WalRecordReader {
  readonly #stretch: WalStretch
  /** A page that is not complete yet. */
  readonly #page = Buffer.alloc(walPageBytes)
  #pageFilled = 0
  #pageStart: Lsn
  /** seeking: the first record has not begun. padding: only zeros may follow. */
  #state: 'seeking' | 'reading' | 'padding' = 'seeking'
  /** The record that is coming in. */
  #recordStart: Lsn = 0n
  #recordBytes = 0
  /** Of the record, still to come; 0 between records. */
  #left = 0
  readonly #header = Buffer.alloc(recordHeaderBytes)
  readonly #body = Buffer.alloc(bodyHeadBytes)
  #bodyFilled = 0
  #checksum = 0
  #previous: Lsn | undefined
  readonly #summary: WalSummary

  constructor(stretch: WalStretch) {
    if (stretch.start % BigInt(walPageBytes) !== 0n)
      throw new RangeError('WAL is read from the begin of a page')
    this.#stretch = stretch
    this.#pageStart = stretch.start
    this.#summary = { lastRecordEnd: stretch.firstRecord ?? stretch.start, records: 0, endsWithSwitch: false }
  }

  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && this.#summary.brokenAt === undefined; ) {
      const taken = Math.min(walPageBytes - this.#pageFilled, bytes.length - at)
      const piece = bytes.subarray(at, at + taken)
      at += taken
      if (taken === walPageBytes) this.#readPage(piece)
      else this.#fillPage(piece)
    }
  }

  /** Nothing follows: a record that is not complete does not count. */
  end(): WalSummary {
    // What ends within the header of a page has no more to say than one that ends before it.
    const least = this.#atSegment(this.#pageStart) ? longHeaderBytes : shortHeaderBytes
    if (this.#pageFilled >= least && this.#summary.brokenAt === undefined)
      this.#readPage(this.#page.subarray(0, this.#pageFilled))
    this.#pageFilled = 0
    return { ...this.#summary }
  }

  #fillPage(piece: Buffer): void {
    piece.copy(this.#page, this.#pageFilled)
    this.#pageFilled += piece.length
    if (this.#pageFilled < walPageBytes) return
    this.#pageFilled = 0
    this.#readPage(this.#page)
  }

  /** A whole page, or what there is of the last one. */
  #readPage(page: Buffer): void {
    const start = this.#pageStart
    this.#pageStart += BigInt(walPageBytes)
    const { firstRecord = start } = this.#stretch
    if (firstRecord >= this.#pageStart) return
    if (this.#summary.endsWithSwitch && this.#atSegment(start)) this.#state = 'reading'
    if (this.#state === 'padding' || isZero(page)) {
      this.#readPadding(page, start)
      return
    }
    const header = readPageHeader(page)
    if (typeof header === 'string') this.#breaks(start, header)
    else if (header.address !== start) this.#breaks(start, 'the page is of another place')
    else this.#readRecords(page, start, this.#firstOnPage(page, header, start, firstRecord))
  }

  /** Behind the last record nothing but zeros may stand. A record that they cut off does not count. */
  #readPadding(bytes: Buffer, start: Lsn): void {
    this.#state = 'padding'
    this.#left = 0
    if (!isZero(bytes)) this.#breaks(start, 'something stands behind the last record')
  }

  #atSegment(lsn: Lsn): boolean {
    return lsn % BigInt(this.#stretch.segmentBytes) === 0n
  }

  /** Finishes the record from the page before; where the next begins, if on this page. */
  #firstOnPage(page: Buffer, header: PageHeader, start: Lsn, firstRecord: Lsn): number | undefined {
    const { flags, headerBytes, continuedBytes } = header
    const isContinued = (flags & pageFlag.firstIsContinued) !== 0
    if (this.#state === 'seeking') {
      if (firstRecord > start) return Number(firstRecord - start)
      const at = headerBytes + (isContinued ? aligned(continuedBytes) : 0)
      return at < walPageBytes ? at : undefined
    }
    if (this.#left > 0 && (flags & pageFlag.firstOverwritesContinued) !== 0) this.#left = 0
    if (this.#left === 0 && !isContinued) return headerBytes
    if (this.#left !== continuedBytes || !isContinued)
      return void this.#breaks(this.#recordStart, 'it is not continued on the next page')
    return this.#readRecord(page, start, headerBytes)
  }

  #readRecords(page: Buffer, start: Lsn, first: number | undefined): void {
    let at = first
    if (at !== undefined && this.#state === 'seeking') this.#state = 'reading'
    // Records begin at multiples of eight, so the length is never split.
    while (at !== undefined && this.#state === 'reading' && at + 4 <= page.length) {
      const bytes = page.readUInt32LE(at)
      if (bytes === 0) break
      this.#beginRecord(start + BigInt(at), bytes)
      at = this.#left > 0 ? this.#readRecord(page, start, at) : undefined
    }
    // Less than a length at the very end of what was pushed says nothing.
    if (at !== undefined && at + 4 <= page.length) this.#readPadding(page.subarray(at), start + BigInt(at))
  }

  #beginRecord(at: Lsn, bytes: number): void {
    const isPossible = bytes >= recordHeaderBytes && bytes <= mostRecordBytes
    if (!isPossible) this.#breaks(at, `a record of ${bytes} bytes`)
    this.#recordStart = at
    this.#recordBytes = bytes
    this.#left = isPossible ? bytes : 0
    this.#bodyFilled = 0
    this.#checksum = 0
  }

  /** Takes what the page has of the record at `at`; where the next record begins, if on this page. */
  #readRecord(page: Buffer, start: Lsn, at: number): number | undefined {
    const piece = page.subarray(at, at + this.#left)
    const before = this.#recordBytes - this.#left
    this.#left -= piece.length
    const headerPiece = piece.subarray(0, Math.max(0, recordHeaderBytes - before))
    headerPiece.copy(this.#header, before)
    this.#takeBody(piece.subarray(headerPiece.length))
    if (this.#left > 0) return undefined
    const next = at + aligned(piece.length)
    if (!this.#finish(start + BigInt(next))) return undefined
    return next < walPageBytes ? next : undefined
  }

  #takeBody(piece: Buffer): void {
    if (piece.length === 0) return
    this.#checksum = crc32c(piece, this.#checksum)
    if (this.#bodyFilled === bodyHeadBytes) return
    this.#bodyFilled += piece.copy(this.#body, this.#bodyFilled)
  }

  /** Whether the record is whole. */
  #finish(end: Lsn): boolean {
    const header = this.#header
    const checksum = crc32c(header.subarray(0, checksumAt), this.#checksum)
    const reason = this.#wrongWith(checksum)
    if (reason !== undefined) {
      this.#breaks(this.#recordStart, reason)
      return false
    }
    this.#previous = this.#recordStart
    const summary = this.#summary
    summary.records++
    summary.lastRecordEnd = end
    summary.endsWithSwitch = header[17] === resourceManager.xlog && infoOf(header) === switchInfo
    if (summary.endsWithSwitch) this.#switched(end)
    const committedAt = this.#committedAt()
    if (committedAt) {
      summary.firstCommitAt ??= committedAt
      summary.lastCommitAt = committedAt
    }
    return true
  }

  #wrongWith(checksum: number): string | undefined {
    if (checksum !== this.#header.readUInt32LE(checksumAt)) return 'the checksum of a record does not fit'
    const previous = this.#header.readBigUInt64LE(8)
    if (this.#previous !== undefined && previous !== this.#previous)
      return 'a record does not follow the one before'
    return previous < this.#recordStart ? undefined : 'a record follows a later one'
  }

  /** The rest of the segment counts as part of the record. */
  #switched(end: Lsn): void {
    const segment = BigInt(this.#stretch.segmentBytes)
    const rest = end % segment
    if (rest === 0n) return
    this.#summary.lastRecordEnd = end - rest + segment
    this.#state = 'padding'
  }

  #committedAt(): Date | undefined {
    const isEnding = this.#header[17] === resourceManager.transaction && endings.has(infoOf(this.#header))
    if (!isEnding) return undefined
    const at = mainDataAt(this.#body.subarray(0, this.#bodyFilled))
    if (at === undefined || at + 8 > this.#bodyFilled) return undefined
    const microseconds = this.#body.readBigInt64LE(at) + postgresEpochMicroseconds
    return new Date(Number(microseconds / 1000n))
  }

  #breaks(at: Lsn, because: string): void {
    this.#summary.brokenAt = at
    this.#summary.brokenBecause = because
  }
}

/** The operation, without the flags of transactions and of the record format. */
function infoOf(header: Buffer): number {
  const info = header[16] as number
  return header[17] === resourceManager.transaction ? info & 0x70 : info & 0xf0
}

/** Where the main data of a record without blocks begins: behind origin, top-level xid and its own header. */
function mainDataAt(body: Buffer): number | undefined {
  const idBytes: Record<number, number> = { 253: 3, 252: 5 }
  for (let at = 0; at < body.length; ) {
    const id = body[at] as number
    if (id === 255) return at + 2
    if (id === 254) return at + 5
    const skip = idBytes[id]
    if (skip === undefined) return undefined
    at += skip
  }
  return undefined
}

function aligned(bytes: number): number {
  return (bytes + 7) & ~7
}
