import { formatLsn, type Lsn, segmentStart } from '#lib/lsn.ts'
import { walPageBytes } from '#postgres/wire/wal-page.ts'
import { WalRecordReader } from '#postgres/wire/wal-records.ts'
import { restoreError } from './errors.ts'

export interface EndOfLog {
  /** Where PostgreSQL took the log to end: behind the last record that it replayed. */
  replayedTo: Lsn
  /** Behind the last byte that is known of the log. */
  end: Lsn
  segmentBytes: number
  /** The known bytes of the segment that begins there; undefined when there is none. */
  segment: (start: Lsn) => Promise<Buffer | undefined>
}

/**
 * PostgreSQL takes a damaged record for the end of the log and promotes. Only a record that had not come in whole may
 * end a replay before the last known byte.
 * @throws RESTORE_ENDED_EARLY
 */
export async function refuseEarlyEnd(log: EndOfLog): Promise<void> {
  const reason = log.replayedTo >= log.end ? undefined : await reasonOfEarlyEnd(log)
  if (reason === undefined) return
  const { replayedTo, end } = log
  throw restoreError('RESTORE_ENDED_EARLY', {
    replayedTo: formatLsn(replayedTo),
    end: formatLsn(end),
    reason,
  })
}

async function reasonOfEarlyEnd({
  replayedTo,
  end,
  segment,
  segmentBytes,
}: EndOfLog): Promise<string | undefined> {
  const pageStart = replayedTo - (replayedTo % BigInt(walPageBytes))
  // At the begin of a page the record stands behind the page's header, wherever that ends.
  const first = replayedTo === pageStart ? {} : { firstRecord: replayedTo }
  const reader = new WalRecordReader({ start: pageStart, segmentBytes, ...first })
  let from = pageStart
  while (from < end) {
    const start = segmentStart(from, segmentBytes)
    const bytes = await segment(start)
    if (!bytes) return `the segment at ${formatLsn(start)} was not there to be replayed`
    const rest = bytes.subarray(Number(from - start))
    if (hasSuccessor(rest, replayedTo))
      return `the record at ${formatLsn(replayedTo)} is damaged and others follow it`
    reader.push(rest)
    from = start + BigInt(segmentBytes)
  }
  const { brokenAt, brokenBecause, records } = reader.end()
  if (brokenAt !== undefined) return `${brokenBecause} at ${formatLsn(brokenAt)}`
  return records > 0 ? `${records} sound records follow` : undefined
}

// xl_tot_len and xl_prev (xlogrecord.h): each record says how long it is and where the one before it begins.
const shortestRecordBytes = 24
const previousAt = 8
const alignment = 8

/** A record that came in only in part is the last one: nothing can say that it comes after it. */
function hasSuccessor(bytes: Buffer, lsn: Lsn): boolean {
  for (let at = 0; at + previousAt + 8 <= bytes.length; at += alignment) {
    // Cheap first: most words are something else.
    if (bytes.readUInt32LE(at + previousAt) !== Number(lsn & 0xffffffffn)) continue
    if (bytes.readBigUInt64LE(at + previousAt) === lsn && bytes.readUInt32LE(at) >= shortestRecordBytes)
      return true
  }
  return false
}
