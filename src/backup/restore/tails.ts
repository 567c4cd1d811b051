import { type Lsn, parseSegmentName } from '#lib/lsn.ts'
import { layout } from '../layout.ts'
import type { Repository } from '../repository.ts'

/** The stored beginning of an open segment: objects that go on where the one before ended, from the first byte on. */
export interface StoredTail {
  segment: string
  timeline: number
  start: Lsn
  /** Exclusive. */
  end: Lsn
  parts: { key: string; from: number; to: number }[]
}

const tailKey = /\/([0-9A-F]{24})\/([0-9A-F]{8})-([0-9A-F]{8})$/

/** Of one segment, or of all of a cluster, by segment name. What lies behind a hole is left out. */
export async function listTails(
  repository: Repository,
  system: string,
  segmentBytes: number,
  only?: string,
): Promise<Map<string, StoredTail>> {
  const tails = new Map<string, StoredTail>()
  for await (const { key } of repository.storage.list(layout.tails(system, only))) {
    const [, segment = '', from = '', to = ''] = tailKey.exec(key) ?? []
    const parsed = parseSegmentName(segment, segmentBytes)
    if (!parsed) continue
    const tail = tails.get(segment) ?? { segment, ...parsed, end: parsed.start, parts: [] }
    tails.set(segment, tail)
    // The listing is in order of `from`.
    extend(tail, { key, from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) })
  }
  return tails
}

function extend(tail: StoredTail, part: StoredTail['parts'][number]): void {
  const end = Number(tail.end - tail.start)
  if (part.from > end || part.to <= end) return
  tail.parts.push(part)
  tail.end = tail.start + BigInt(part.to)
}
