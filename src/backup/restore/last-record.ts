import { crc32c } from '@node-rs/crc32'
import { formatLsn, type Lsn } from '#lib/lsn.ts'
import { readPageHeader, walPageBytes } from '#postgres/wire/wal-page.ts'
import { walkRecords } from '#postgres/wire/wal-records.ts'

/**
 * Why the pages of a segment, as far as they are known, are not what a server sent; undefined when they are. The record
 * at their end may be unfinished: it goes on on a page that has not come.
 */
export function faultIn(
  pages: Buffer,
  o: { start: Lsn; segmentBytes: number /** Behind the last known byte. */; end: Lsn },
): string | undefined {
  const { start, segmentBytes, end } = o
  const { brokenAt, brokenBecause, lastRecordEnd, records } = walkRecords(pages, { start, segmentBytes })
  if (brokenAt !== undefined) return `${brokenBecause} at ${formatLsn(brokenAt)}`
  const at = beginOfNext(pages, records === 0 ? 0 : Number(lastRecordEnd - start))
  if (at === undefined || !isWholeWithOtherLength(pages, at, Number(end - start))) return undefined
  return `the length of the last record was changed at ${formatLsn(start + BigInt(at))}`
}

/** Where the record begins that `offset` stands before: behind the header of its page, and what that continues. */
function beginOfNext(pages: Buffer, offset: number): number | undefined {
  if (offset % walPageBytes !== 0) return offset
  const header = readPageHeader(pages.subarray(offset, offset + walPageBytes))
  if (typeof header === 'string') return undefined
  const at = header.headerBytes + ((header.continuedBytes + 7) & ~7)
  return at < walPageBytes ? offset + at : undefined
}

// XLogRecord (xlogrecord.h): the total length first, the checksum of all else in the last four of its 24 bytes.
const headerBytes = 24
const checksumAt = 20
// Zeros at the end of a record look like those behind it; few records end with more.
const mostZeros = 64

/**
 * Whether the record is whole and only its length was changed: with the length that it seems to have, its checksum
 * fits. A length that leads beyond the page is the one damage that looks like the normal end of a log.
 */
export function isWholeWithOtherLength(pages: Buffer, at: number, used: number): boolean {
  const pageEnd = (Math.floor(at / walPageBytes) + 1) * walPageBytes
  const last = Math.min(used + mostZeros, pageEnd, pages.length)
  if (at + headerBytes > last || used > pageEnd) return false
  const header = Buffer.from(pages.subarray(at, at + checksumAt))
  const checksum = pages.readUInt32LE(at + checksumAt)
  // What is known may be counted with the padding to a multiple of eight.
  for (let length = Math.max(headerBytes, used - at - 7); at + length <= last; length++) {
    header.writeUInt32LE(length)
    if (crc32c(header, crc32c(pages.subarray(at + headerBytes, at + length))) === checksum) return true
  }
  return false
}
