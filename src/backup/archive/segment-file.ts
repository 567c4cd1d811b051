import { type Lsn, segmentName, segmentStart } from '#lib/lsn.ts'
import type { SpoolFiles } from './spool-files.ts'

const fillBytes = 1024 * 1024
const zeros = Buffer.alloc(fillBytes)

/** One segment that is being received: as long as a whole one from the beginning, zeros where nothing came yet. */
export class SegmentFile {
  readonly segment: string
  readonly timeline: number
  readonly start: Lsn
  readonly end: Lsn
  readonly fd: number
  readonly #files: SpoolFiles
  readonly #earlier: Buffer | undefined

  constructor(o: {
    files: SpoolFiles
    fd: number
    timeline: number
    lsn: Lsn
    segmentBytes: number
    /** What an earlier session wrote here: each byte is zero or right. */
    earlier: Buffer | undefined
  }) {
    this.#files = o.files
    this.fd = o.fd
    this.timeline = o.timeline
    this.segment = segmentName(o.timeline, o.lsn, o.segmentBytes)
    this.start = segmentStart(o.lsn, o.segmentBytes)
    this.end = this.start + BigInt(o.segmentBytes)
    this.#earlier = o.earlier
  }

  /**
   * Writes what is there already too: a page that an earlier fdatasync failed for is clean in the cache and not on disk.
   * Answers the first position that holds another byte than the server now sends, and writes nothing then.
   */
  write(lsn: Lsn, bytes: Buffer): Lsn | undefined {
    const offset = Number(lsn - this.start)
    const different = this.#earlier ? firstDifference(this.#earlier, offset, bytes) : undefined
    if (different !== undefined) return this.start + BigInt(different)
    this.#files.write(this.fd, bytes, offset)
    return undefined
  }
}

/** Offset in `earlier` of a byte that is neither zero nor the new one. */
function firstDifference(earlier: Buffer, offset: number, bytes: Buffer): number | undefined {
  const length = Math.min(bytes.length, earlier.length - offset)
  if (length <= 0 || earlier.compare(bytes, 0, length, offset, offset + length) === 0) return undefined
  for (let i = 0; i < length; i++) {
    const byte = earlier[offset + i]
    if (byte !== 0 && byte !== bytes[i]) return offset + i
  }
  return undefined
}

/** What the file holds up to its last byte that is not zero. Zeros at the end of a record are the file's own anyway. */
export function readUsed(files: SpoolFiles, fd: number, segmentBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(segmentBytes)
  const read = files.read(fd, bytes, 0)
  let end = read
  while (end >= fillBytes && bytes.compare(zeros, 0, fillBytes, end - fillBytes, end) === 0) end -= fillBytes
  while (end > 0 && bytes[end - 1] === 0) end--
  return bytes.subarray(0, end)
}

/** Zeros over the range, into the page cache, at once. */
export function fillNow(files: SpoolFiles, fd: number, range: { from: number; to: number }): void {
  for (let at = range.from; at < range.to; at += fillBytes)
    files.write(fd, zeros.subarray(0, Math.min(fillBytes, range.to - at)), at)
}
