import { createHash } from 'node:crypto'
import type { SealedHeader } from '../model.ts'
import { requireSound } from './damage.ts'
import { frameFlags, longestFrameBytes, tagBytes } from './frame.ts'
import { longestHeaderBytes, parseHeader } from './header.ts'

/*
 * magic | header length u32 | header JSON | frames | table: 44 bytes per frame | end: count u32, digest, signature, magic
 * All numbers are little-endian. docs/backup-format.md describes every byte.
 */
const magic = Buffer.from('MYSEAL01')
const endMagic = Buffer.from('MYSEALED')
export const prefixBytes = magic.length + 4
const rowBytes = 4 + 4 + 4 + 32
const signatureBytes = 64
export const endBytes = 4 + 32 + signatureBytes + endMagic.length
const mostFrames = 65_536
const signedPurpose = Buffer.from('moonyetis sealed object v1\n')

/** One row of the table: where a frame is and what it is. */
export interface FrameRow {
  /** Offset in the object. */
  start: number
  storedBytes: number
  rawBytes: number
  flags: number
  /** Of the stored bytes. */
  sha256: Buffer
}

/** An object taken apart; nothing in it is proven yet. */
export interface SealedParts {
  header: SealedHeader
  headerHash: Buffer
  frames: FrameRow[]
  /** Of header and table, so of the whole content. */
  digest: Buffer
  /** Ed25519, of signedMessage(digest). */
  signature: Buffer
}

/** Everything before the first frame. */
export function encodeHead(header: Buffer): Buffer {
  const prefix = Buffer.alloc(prefixBytes)
  prefix.set(magic)
  prefix.writeUInt32LE(header.length, magic.length)
  return Buffer.concat([prefix, header])
}

/** @throws Damage */
export function readHeaderLength(prefix: Buffer): number {
  requireSound(prefix.length >= prefixBytes, 'it is cut off')
  requireSound(prefix.subarray(0, magic.length).equals(magic), 'it is not a sealed object')
  const bytes = prefix.readUInt32LE(magic.length)
  requireSound(bytes <= longestHeaderBytes, 'its header is too long')
  return bytes
}

export function encodeTable(frames: readonly Omit<FrameRow, 'start'>[]): Buffer {
  const table = Buffer.alloc(frames.length * rowBytes)
  frames.forEach((frame, index) => {
    const at = index * rowBytes
    table.writeUInt32LE(frame.storedBytes, at)
    table.writeUInt32LE(frame.rawBytes, at + 4)
    table.writeUInt32LE(frame.flags, at + 8)
    table.set(frame.sha256, at + 12)
  })
  return table
}

export function encodeEnd(o: { count: number; digest: Buffer; signature: Buffer }): Buffer {
  const end = Buffer.alloc(endBytes)
  end.writeUInt32LE(o.count)
  end.set(o.digest, 4)
  end.set(o.signature, 36)
  end.set(endMagic, 36 + signatureBytes)
  return end
}

export function tableBytes(count: number): number {
  return count * rowBytes
}

export function digestOf(headerHash: Uint8Array, table: Uint8Array): Buffer {
  return createHash('sha256').update(headerHash).update(table).digest()
}

export function signedMessage(digest: Uint8Array): Buffer {
  return Buffer.concat([signedPurpose, digest])
}

/** @throws Damage when the bytes do not add up to one object */
export function takeApart(bytes: Buffer): SealedParts {
  const headBytes = prefixBytes + readHeaderLength(bytes)
  requireSound(bytes.length >= headBytes + rowBytes + endBytes, 'it is cut off')
  const head = bytes.subarray(0, headBytes)
  const end = bytes.subarray(bytes.length - endBytes)
  requireSound(end.subarray(endBytes - endMagic.length).equals(endMagic), 'its end is missing')
  const count = end.readUInt32LE(0)
  requireSound(count >= 1 && count <= mostFrames, 'its number of frames is impossible')
  const tableStart = bytes.length - endBytes - tableBytes(count)
  requireSound(tableStart >= headBytes, 'it is cut off')
  const table = bytes.subarray(tableStart, bytes.length - endBytes)
  const headerHash = createHash('sha256').update(head).digest()
  const digest = end.subarray(4, 36)
  requireSound(digestOf(headerHash, table).equals(digest), 'its header or table of frames was changed')
  const frames = readTable(table, headBytes)
  const last = frames.at(-1) as FrameRow
  requireSound(last.start + last.storedBytes === tableStart, 'its frames do not add up')
  const header = parseHeader(head.subarray(prefixBytes))
  return { header, headerHash, frames, digest, signature: end.subarray(36, 36 + signatureBytes) }
}

function readTable(table: Buffer, from: number): FrameRow[] {
  const count = table.length / rowBytes
  let start = from
  return Array.from({ length: count }, (_, index) => {
    const at = index * rowBytes
    const row = {
      start,
      storedBytes: table.readUInt32LE(at),
      rawBytes: table.readUInt32LE(at + 4),
      flags: table.readUInt32LE(at + 8),
      sha256: table.subarray(at + 12, at + rowBytes),
    }
    start += row.storedBytes
    checkRow(row, index === count - 1)
    return row
  })
}

function checkRow({ storedBytes, rawBytes, flags }: FrameRow, isLast: boolean): void {
  requireSound(rawBytes <= longestFrameBytes, 'a frame claims to be too long')
  requireSound((flags & ~(frameFlags.zstd | frameFlags.closing)) === 0, 'a frame has unknown flags')
  requireSound(((flags & frameFlags.closing) !== 0) === isLast, 'its closing frame is not its last')
  requireSound(!isLast || rawBytes === 0, 'its closing frame is not empty')
  // What zstd does not shorten is stored as it is, so a frame is never longer than its content and the tag.
  requireSound(
    storedBytes >= tagBytes && storedBytes <= rawBytes + tagBytes,
    'a frame has no possible length',
  )
}
