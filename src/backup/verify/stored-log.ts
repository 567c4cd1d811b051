import { type Lsn, parseLsn, parseSegmentName } from '#lib/lsn.ts'
import { layout } from '../layout.ts'
import type { HistoryFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import type { StoredLog } from './continuity.ts'

export interface StoredLogObjects extends StoredLog {
  /** Every object of the log, for reading it again. */
  keys: { key: string; bytes: number; kind: 'segment' | 'history' | 'tail' }[]
}

/** Lists what is stored of a database's log. Names only, and the headers of histories; nothing is proven yet. */
export async function listLog(
  repository: Repository,
  system: string,
  segmentBytes: number,
  onUnreadable: (key: string, error: unknown) => void,
): Promise<StoredLogObjects> {
  const keys: StoredLogObjects['keys'] = []
  const segments = new Map<number, Lsn[]>()
  for (const timeline of await repository.timelines(system)) {
    const starts: Lsn[] = []
    for await (const { segment, key, bytes } of repository.segments(system, timeline)) {
      keys.push({ key, bytes, kind: 'segment' })
      const parsed = parseSegmentName(segment, segmentBytes)
      if (parsed) starts.push(parsed.start)
    }
    segments.set(timeline, starts)
  }
  const onKey = (key: string, bytes: number) => keys.push({ key, bytes, kind: 'history' })
  const parents = await readParents(repository, system, onUnreadable, onKey)
  const tails = new Map<number, Map<Lsn, Lsn>>()
  for await (const { key, bytes } of repository.storage.list(layout.tails(system))) {
    keys.push({ key, bytes, kind: 'tail' })
    addTail(tails, key, segmentBytes)
  }
  return { segmentBytes, segments, parents, tails, keys }
}

/** From the headers of the histories: by timeline its ancestors, oldest first, and where each ended. */
export async function readParents(
  repository: Repository,
  system: string,
  onUnreadable: (key: string, error: unknown) => void,
  onKey?: (key: string, bytes: number) => void,
): Promise<Map<number, { timeline: number; end: Lsn }[]>> {
  const parents = new Map<number, { timeline: number; end: Lsn }[]>()
  for await (const { key, bytes } of repository.storage.list(layout.histories(system))) {
    onKey?.(key, bytes)
    try {
      const { facts } = await repository.inspect(key)
      const { timeline, parents: list } = facts as HistoryFacts
      parents.set(timeline, list.flatMap(readParent))
    } catch (error) {
      onUnreadable(key, error)
    }
  }
  return parents
}

function readParent({ timeline, end }: HistoryFacts['parents'][number]): { timeline: number; end: Lsn }[] {
  const lsn = parseLsn(end)
  return lsn === undefined ? [] : [{ timeline, end: lsn }]
}

const tailName = /^([0-9A-F]{24})\/([0-9A-F]{8})-([0-9A-F]{8})$/

/** A listing is in order, so each piece either goes on where the last one ended or is behind a hole. */
function addTail(tails: Map<number, Map<Lsn, Lsn>>, key: string, segmentBytes: number): void {
  const [, segment = '', from = '', to = ''] = tailName.exec(key.split('/').slice(-2).join('/')) ?? []
  const parsed = parseSegmentName(segment, segmentBytes)
  if (!parsed) return
  const ofTimeline = tails.get(parsed.timeline) ?? new Map<Lsn, Lsn>()
  tails.set(parsed.timeline, ofTimeline)
  const end = ofTimeline.get(parsed.start) ?? parsed.start
  if (parsed.start + BigInt(`0x${from}`) > end) return
  const until = parsed.start + BigInt(`0x${to}`)
  if (until > end) ofTimeline.set(parsed.start, until)
}
