import { parseLsn, parseSegmentName } from '#lib/lsn.ts'
import { checkPiece, checkSegment } from '#postgres/wire/wal-page.ts'
import { layout } from '../layout.ts'
import type { SealedHeader, WalFacts } from '../model.ts'

/**
 * Why an opened object does not hold the log that its name promises, by the header of every page; undefined when it
 * does, or when it is no log. Its signature only says that it is what the archive wrote there.
 */
export function wrongWal({ kind, object, facts }: SealedHeader, bytes: Uint8Array): string | undefined {
  if (kind !== 'wal' && kind !== 'wal-tail') return undefined
  const { systemIdentifier, segment, segmentBytes, ...range } = facts as WalFacts
  const parsed = parseSegmentName(segment, segmentBytes)
  const [from, end] = [parseLsn(range.start), parseLsn(range.end)]
  const place =
    kind === 'wal' ? layout.segment(systemIdentifier, segment) : layout.tails(systemIdentifier, segment)
  const isHere = kind === 'wal' ? object === place : object.startsWith(place)
  if (!parsed || from === undefined || end === undefined || !isHere) return `its facts are of ${segment}`
  const expected = { systemIdentifier, ...parsed, segmentBytes, end }
  return kind === 'wal' ? checkSegment(bytes, expected) : checkPiece(bytes, from, expected)
}
