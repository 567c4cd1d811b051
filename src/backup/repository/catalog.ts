import { parseSegmentName } from '#lib/lsn.ts'
import type { Storage } from '#storage/storage.ts'
import { layout } from '../layout.ts'

// The listing is the catalogue: there is no index that could be lost or disagree with it.

export interface SegmentObject {
  segment: string
  key: string
  bytes: number
}

/** Ids of the backups that have a marker, in ascending order, whether or not it is sound. */
export async function markedBackups(storage: Storage): Promise<string[]> {
  const ids: string[] = []
  for await (const { key } of storage.list(layout.backups)) {
    const [id, name, ...rest] = key.slice(layout.backups.length).split('/')
    if (id !== undefined && name === 'COMPLETE' && rest.length === 0) ids.push(id)
  }
  return ids
}

/** Whole segments of a timeline in the order of the log. */
export async function* segmentsOf(
  storage: Storage,
  o: { system: string; timeline: number; after?: string },
): AsyncGenerator<SegmentObject> {
  const after = o.after === undefined ? {} : { after: layout.segment(o.system, o.after) }
  for await (const { key, bytes } of storage.list(layout.timeline(o.system, o.timeline), after)) {
    const segment = key.slice(key.lastIndexOf('/') + 1)
    if (isSegment(segment) && key === layout.segment(o.system, segment)) yield { segment, key, bytes }
  }
}

/** Those with a history or a segment, ascending. */
export async function timelinesOf(storage: Storage, system: string): Promise<number[]> {
  const found = new Set<number>()
  const add = (name: string) => {
    if (/^[0-9A-F]{8}$/.test(name)) found.add(Number.parseInt(name, 16))
  }
  for await (const name of namesBelow(storage, layout.cluster(system))) add(name)
  for await (const name of namesBelow(storage, layout.histories(system))) add(name)
  return [...found].sort((left, right) => left - right)
}

/** System identifiers of the clusters whose log is here, in whole segments or in tails. */
export async function systemsOf(storage: Storage): Promise<string[]> {
  const found = new Set<string>()
  for (const prefix of [layout.clusters, layout.allTails])
    for await (const name of namesBelow(storage, prefix)) if (/^[0-9]{1,20}$/.test(name)) found.add(name)
  return [...found].sort()
}

/** What a directory would show: each name once, without walking through what is below it. */
async function* namesBelow(storage: Storage, prefix: string): AsyncGenerator<string> {
  let after: string | undefined
  for (;;) {
    const name = await firstName(storage, prefix, after)
    if (name === undefined) return
    yield name
    // '0' follows '/': all keys below the name come before this one, and a longer name comes after it.
    after = `${prefix}${name}0`
  }
}

async function firstName(
  storage: Storage,
  prefix: string,
  after: string | undefined,
): Promise<string | undefined> {
  for await (const { key } of storage.list(prefix, after === undefined ? {} : { after }))
    return key.slice(prefix.length).split('/')[0]
  return undefined
}

function isSegment(name: string): boolean {
  // The smallest segment size allows the most names.
  return parseSegmentName(name, 1024 * 1024) !== undefined
}
