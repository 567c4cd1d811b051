import { formatLsn, type Lsn, timelineText } from '#lib/lsn.ts'

/** XLOG_BLCKSZ of every build we know. */
export const walPageBytes = 8192
export const shortHeaderBytes = 24
export const longHeaderBytes = 40

/** xlp_info (xlog_internal.h). */
export const pageFlag = {
  firstIsContinued: 0x0001,
  longHeader: 0x0002,
  /** The record that the page before began was never finished. */
  firstOverwritesContinued: 0x0008,
} as const
const allFlags = 0x000f

/** XLOG_PAGE_MAGIC by major version. */
const magics: ReadonlyMap<number, number> = new Map([
  [0xd110, 15],
  [0xd113, 16],
  [0xd116, 17],
  [0xd118, 18],
])

/** XLogPageHeaderData; the last three of XLogLongPageHeaderData, on the first page of a segment. */
export interface PageHeader {
  /** PostgreSQL major version. */
  major: number
  flags: number
  timeline: number
  address: Lsn
  /** Bytes of the record that began on an earlier page. */
  continuedBytes: number
  headerBytes: number
  systemIdentifier?: string
  segmentBytes?: number
  pageBytes?: number
}

/** What a page begins with; a text says why it is none. The bytes are those of a little-endian server. */
export function readPageHeader(page: Buffer): PageHeader | string {
  if (page.length < shortHeaderBytes) return 'it is shorter than a page header'
  const major = magics.get(page.readUInt16LE(0))
  if (major === undefined) return `its magic number ${page.toString('hex', 0, 2)} is not known`
  const flags = page.readUInt16LE(2)
  if ((flags & ~allFlags) !== 0) return `it has unknown flags ${flags.toString(16)}`
  const isLong = (flags & pageFlag.longHeader) !== 0
  if (isLong && page.length < longHeaderBytes) return 'it is shorter than a page header'
  return {
    major,
    flags,
    timeline: page.readUInt32LE(4),
    address: page.readBigUInt64LE(8),
    continuedBytes: page.readUInt32LE(16),
    headerBytes: isLong ? longHeaderBytes : shortHeaderBytes,
    ...(isLong
      ? {
          systemIdentifier: String(page.readBigUInt64LE(24)),
          segmentBytes: page.readUInt32LE(32),
          pageBytes: page.readUInt32LE(36),
        }
      : {}),
  }
}

export interface ExpectedSegment {
  systemIdentifier: string
  timeline: number
  /** First byte of the segment. */
  start: Lsn
  segmentBytes: number
  /** Where the WAL in it ends, when that is before the end of the segment; what follows is not looked at. */
  end?: Lsn
}

/**
 * Checks that a segment is the one it is taken for, by the header of each of its pages; undefined when it is, else why
 * not. A forced switch leaves zeros up to the segment's end, which only WalRecordReader can tell from a loss.
 */
export function checkSegment(bytes: Uint8Array, expected: ExpectedSegment): string | undefined {
  const segment = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const end = expected.end ?? expected.start + BigInt(expected.segmentBytes)
  const wanted = Number(end - expected.start)
  if (wanted < 0 || wanted > expected.segmentBytes) return `${formatLsn(end)} is not within the segment`
  if (segment.length < wanted) return `it has ${segment.length} bytes of ${wanted}`
  if (segment.length > expected.segmentBytes) return `it has more than ${expected.segmentBytes} bytes`
  return checkPages(segment.subarray(0, wanted), expected)
}

/** The same for a part of a segment, [from, end), by the pages that begin in it; it may begin and end inside of pages. */
export function checkPiece(
  bytes: Uint8Array,
  from: Lsn,
  expected: ExpectedSegment & Required<Pick<ExpectedSegment, 'end'>>,
): string | undefined {
  const { start, segmentBytes, end } = expected
  if (from < start || end < from || end > start + BigInt(segmentBytes))
    return `${formatLsn(from)} to ${formatLsn(end)} is not within the segment`
  const piece = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wanted = Number(end - from)
  if (piece.length !== wanted) return `it has ${piece.length} bytes of ${wanted}`
  const offset = Number(from - start)
  const first = Math.ceil(offset / walPageBytes) * walPageBytes
  // A header that is cut off tells nothing yet.
  const last = Math.floor((offset + wanted) / walPageBytes) * walPageBytes
  const rest = offset + wanted - last
  const cut = rest < (last === 0 ? longHeaderBytes : shortHeaderBytes) ? rest : 0
  if (first >= offset + wanted - cut) return undefined
  return checkPages(piece.subarray(first - offset, wanted - cut), expected, first)
}

/** `offset` is where in the segment the pages begin. */
function checkPages(pages: Buffer, expected: ExpectedSegment, offset = 0): string | undefined {
  let timeline = 0
  for (let at = 0; at < pages.length; at += walPageBytes) {
    const page = pages.subarray(at, at + walPageBytes)
    const address = expected.start + BigInt(offset + at)
    if (address > expected.start && isZero(page.subarray(0, shortHeaderBytes)))
      return zerosFrom(pages, at, address)
    const header = readPageHeader(page)
    const reason = typeof header === 'string' ? header : checkHeader(header, address, expected, timeline)
    if (reason !== undefined) return `page ${formatLsn(address)}: ${reason}`
    timeline = (header as PageHeader).timeline
  }
  return undefined
}

function checkHeader(
  header: PageHeader,
  address: Lsn,
  expected: ExpectedSegment,
  timelineBefore: number,
): string | undefined {
  const { timeline } = header
  if (header.address !== address) return `it says it is page ${formatLsn(header.address)}`
  // A segment in which a timeline begins starts with a copy of the old one.
  if (timeline === 0 || timeline > expected.timeline || timeline < timelineBefore)
    return `it is of timeline ${timelineText(timeline)}`
  const isFirst = address === expected.start
  if (isFirst !== (header.systemIdentifier !== undefined)) return 'its header has the wrong length'
  return isFirst ? checkLongHeader(header, expected) : undefined
}

function checkLongHeader(header: PageHeader, expected: ExpectedSegment): string | undefined {
  if (header.systemIdentifier !== expected.systemIdentifier)
    return `it is of database system ${header.systemIdentifier}`
  if (header.segmentBytes !== expected.segmentBytes) return `its segments have ${header.segmentBytes} bytes`
  if (header.pageBytes !== walPageBytes) return `its pages have ${header.pageBytes} bytes`
  return undefined
}

function zerosFrom(segment: Buffer, at: number, address: Lsn): string | undefined {
  return isZero(segment.subarray(at)) ? undefined : `page ${formatLsn(address)}: zeros between pages`
}

const zeros = Buffer.alloc(walPageBytes)

export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const part = bytes.subarray(at, at + zeros.length)
    if (!part.equals(zeros.subarray(0, part.length))) return false
  }
  return true
}
