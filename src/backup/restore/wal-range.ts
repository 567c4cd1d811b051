import { formatLsn, type Lsn, segmentName, segmentStart } from '#lib/lsn.ts'
import { backupError } from '../errors.ts'
import type { Stretch } from './timelines.ts'

/** What is there of one segment of one timeline. */
export interface WalPiece {
  timeline: number
  /** Of the segment. */
  start: Lsn
  /** How far its bytes go, exclusive. */
  end: Lsn
}

/** The pieces of one cluster, by segment name; of several for one segment the longest. */
export type WalStock = ReadonlyMap<string, WalPiece>

export interface WalRange {
  /** Names of the segments, in the order of replay. */
  segments: string[]
  from: Lsn
  /** How far the log goes without a hole, exclusive. */
  to: Lsn
  /** The timeline that `to` is on. */
  timeline: number
  /** Set when the log goes on after a hole. */
  hole?: { from: Lsn; to: Lsn; timeline: number }
}

/** Adds a piece unless a longer one is there. */
export function addPiece(stock: Map<string, WalPiece>, segment: string, piece: WalPiece): void {
  const known = stock.get(segment)
  if (!known || known.end < piece.end) stock.set(segment, piece)
}

/**
 * How far the log goes along a history from `from` on, at most to the segment that holds `until`. As PostgreSQL does
 * it (xlogrecovery.c, XLogFileReadAnyTLI): in the segment of a switch the newer timeline comes first.
 */
export function walkRange(options: {
  stock: WalStock
  path: readonly Stretch[]
  from: Lsn
  until?: Lsn | undefined
  segmentBytes: number
}): WalRange {
  const { stock, path, from, until, segmentBytes } = options
  const size = BigInt(segmentBytes)
  const range: WalRange = { segments: [], from, to: from, timeline: timelineAt(path, from) }
  for (let start = segmentStart(from, segmentBytes); ; start += size) {
    const piece = bestPiece({ stock, path, start, segmentBytes })
    if (piece === undefined) break
    range.segments.push(segmentName(piece.timeline, start, segmentBytes))
    range.timeline = piece.timeline
    if (piece.end > range.to) range.to = piece.end
    if (piece.end < start + size || (until !== undefined && range.to >= until)) break
  }
  if (until !== undefined && range.to >= until) return range
  const next = nextAfter({ stock, path, after: range.to, segmentBytes })
  return next ? { ...range, hole: { from: range.to, to: next.start, timeline: next.timeline } } : range
}

/** @throws BACKUP_WAL_GAP */
export function refuseHole(range: WalRange): void {
  if (range.hole) throw gap(range.hole)
}

export function gap(hole: { from: Lsn; to: Lsn; timeline: number }) {
  const { from, to, timeline } = hole
  return backupError('BACKUP_WAL_GAP', { from: formatLsn(from), to: formatLsn(to), timeline })
}

interface At {
  stock: WalStock
  path: readonly Stretch[]
  start: Lsn
  segmentBytes: number
}

/** What is served of the segment; `end` is cut where its timeline was left. */
function bestPiece({ stock, path, start, segmentBytes }: At): WalPiece | undefined {
  for (const stretch of path.toReversed()) {
    const isBefore = segmentStart(stretch.from, segmentBytes) > start
    const isAfter = stretch.until !== undefined && stretch.until <= start
    if (isBefore || isAfter) continue
    const piece = stock.get(segmentName(stretch.timeline, start, segmentBytes))
    // A piece that ends before the switch has nothing that the older timeline has not.
    if (piece === undefined || piece.end <= stretch.from) continue
    const { until } = stretch
    return until !== undefined && until < piece.end ? { ...piece, end: until } : piece
  }
  return undefined
}

/** The first piece that begins beyond the position and is of this history. */
function nextAfter(options: {
  stock: WalStock
  path: readonly Stretch[]
  after: Lsn
  segmentBytes: number
}): WalPiece | undefined {
  const { stock, path, after } = options
  let found: WalPiece | undefined
  for (const piece of stock.values()) {
    if (piece.end <= after || piece.start < after) continue
    const stretch = path.find(one => one.timeline === piece.timeline)
    if (!stretch || piece.end <= stretch.from) continue
    if (stretch.until !== undefined && piece.start >= stretch.until) continue
    if (!found || piece.start < found.start) found = piece
  }
  return found
}

function timelineAt(path: readonly Stretch[], lsn: Lsn): number {
  return path.findLast(one => one.from <= lsn)?.timeline ?? path[0]?.timeline ?? 1
}
