import type { Lsn } from '#lib/lsn.ts'
import { isZero, readPageHeader, shortHeaderBytes, walPageBytes } from '#postgres/wire/wal-page.ts'
import type { WalSummary } from '#postgres/wire/wal-records.ts'
import { isWholeWithOtherLength } from './last-record.ts'

// A disk writes whole sectors; the smallest are of so many bytes.
const sectorBytes = 512
const recordHeaderBytes = 24

/**
 * Where the log ends that a power cut tore; undefined when its fault is no tear. Of what was being written then, each
 * sector reached the disk or is still the zeros that it was, in any order; nobody had a confirmation for it.
 *
 * What can be known is decided: a fault before `flushed`, the last durable word about what was on disk, is damage. Behind
 * it there may still be a second's worth that was confirmed. That was on disk too, so its sectors are all there: a fault
 * in a record without a missing sector is damage as well, and only one with a missing sector is a tear.
 * Two things cannot be told from a tear in that second: a lost sector, and a changed length in a last record of several
 * pages.
 */
export function tornEnd(
  pages: Buffer,
  o: { start: Lsn; flushed: Lsn; summary: WalSummary },
): number | undefined {
  const { start, summary } = o
  if (summary.brokenAt === undefined) return undefined
  const brokenAt = Number(summary.brokenAt - start)
  const cut = summary.records === 0 ? brokenAt : Number(summary.lastRecordEnd - start)
  const flushed = Number(o.flushed - start)
  const begin = cut % walPageBytes === 0 ? cut + headerBytesAt(pages, cut) : cut
  const end = endOfRecord(pages, begin)
  if (end === undefined && cut < flushed) return undefined
  // A changed length is damage, and would claim the zeros behind the log for its record.
  if (isWholeWithOtherLength(pages, begin, usedOf(pages))) return undefined
  const next = successorOf(pages, begin, start) ?? pages.length
  const range = { from: Math.max(cut, flushed), to: Math.min(next, Math.max(end ?? cut, brokenAt + 1)) }
  return misses(pages, range) ? cut : undefined
}

/** Where the next record begins, which says so of itself (xl_prev); undefined when it is not there. */
function successorOf(pages: Buffer, begin: number, start: Lsn): number | undefined {
  const lsn = start + BigInt(begin)
  for (let at = begin + recordHeaderBytes; at + 16 <= pages.length; at += 8)
    if (pages.readBigUInt64LE(at + 8) === lsn && pages.readUInt32LE(at) >= recordHeaderBytes) return at
  return undefined
}

function usedOf(pages: Buffer): number {
  let at = pages.length
  while (at > 0 && pages[at - 1] === 0) at--
  return at
}

/** Behind the record that begins there, as its length says; undefined when none begins there. */
function endOfRecord(pages: Buffer, offset: number): number | undefined {
  let at = offset
  if (at + 4 > pages.length) return undefined
  let left = pages.readUInt32LE(at)
  if (left < recordHeaderBytes) return undefined
  while (at < pages.length) {
    const pageEnd = (Math.floor(at / walPageBytes) + 1) * walPageBytes
    if (at + left <= pageEnd) return at + left
    left -= pageEnd - at
    at = pageEnd + shortHeaderBytes
  }
  return pages.length
}

function headerBytesAt(pages: Buffer, offset: number): number {
  const header = readPageHeader(pages.subarray(offset, offset + walPageBytes))
  return typeof header === 'string' ? shortHeaderBytes : header.headerBytes
}

/** Whether a sector, or what of the first one lies in the range, is zeros to its end. */
function misses(pages: Buffer, { from, to }: { from: number; to: number }): boolean {
  for (let at = from; at < Math.min(to, pages.length); ) {
    const end = (Math.floor(at / sectorBytes) + 1) * sectorBytes
    if (isZero(pages.subarray(at, end))) return true
    at = end
  }
  return false
}
