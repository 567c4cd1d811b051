import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { adoptOwner } from '#lib/home.ts'
import { type Lsn, parseSegmentName } from '#lib/lsn.ts'

/** Where a segment lies and what of the write-ahead log it is. */
export interface SpooledSegment {
  segment: string
  timeline: number
  start: Lsn
}

/** The last segment of a timeline that was left in the middle of it: `<segment>.<end offset>.closed`. */
export interface ClosedSegment extends SpooledSegment {
  end: Lsn
}

export interface SpoolContents {
  /** Oldest first. */
  complete: SpooledSegment[]
  closed: ClosedSegment[]
  partial: SpooledSegment[]
}

export const partialName = (segment: string) => `${segment}.partial`
export const closedName = (segment: string, endOffset: number) =>
  `${segment}.${endOffset.toString(16).toUpperCase().padStart(8, '0')}.closed`

/** Systems whose WAL the spool holds; an empty directory is nobody's. */
export function systemsIn(root: string): string[] {
  if (!existsSync(root)) return []
  return readdirSync(root, { withFileTypes: true })
    .filter(entry => entry.isDirectory() && /^\d{1,20}$/.test(entry.name))
    .map(entry => entry.name)
    .filter(name => readdirSync(join(root, name)).some(file => /^[0-9A-F]{24}/.test(file)))
}

/** Holds how far the open segment was on disk for sure when that was last noted. */
export const flushedName = 'flushed'

/** A segment and an offset in it. */
export interface Flushed {
  segment: string
  offset: number
}

/** As long as ever: a note that is written over the one before is never a mixture of both. */
export const flushedText = ({ segment, offset }: Flushed) => `${segment} ${String(offset).padStart(10, '0')}`

/** Undefined when nothing was noted yet. */
export function readFlushed(directory: string): Flushed | undefined {
  const path = join(directory, flushedName)
  const text = existsSync(path) ? readFileSync(path, 'latin1') : ''
  const [, segment, offset] = /^([0-9A-F]{24}) (\d{10})$/.exec(text) ?? []
  return segment === undefined ? undefined : { segment, offset: Number(offset) }
}

/** Holds the id of the data key that the archive seals with. */
export const keyName = 'data-key'

/** Data keys that archives with a spool here seal with, or will when they start again: a home must not forget them. */
export function walKeysIn(root: string): string[] {
  if (!existsSync(root)) return []
  return readdirSync(root)
    .map(name => join(root, name, keyName))
    .filter(path => existsSync(path))
    .map(path => readFileSync(path, 'utf8').trim())
}

/** Makes `<root>/<systemIdentifier>` with mode 0700, whatever was there. */
export function makeSpoolDirectory(root: string, systemIdentifier: string): string {
  const directory = join(root, systemIdentifier)
  for (const path of [root, directory]) {
    if (mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined) adoptOwner(path)
    // WAL holds everything that the database holds.
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o700)
  }
  return directory
}

/** What an earlier process left; files of other names are none of ours and stay. */
export function readSpool(directory: string, segmentBytes: number): SpoolContents {
  const contents: SpoolContents = { complete: [], closed: [], partial: [] }
  for (const name of readdirSync(directory).sort()) {
    const [segment = '', ...rest] = name.split('.')
    const parsed = parseSegmentName(segment, segmentBytes)
    if (!parsed) continue
    const found = { segment, ...parsed }
    const offset = /^([0-9A-F]{8})\.closed$/.exec(rest.join('.'))
    if (rest.length === 0) contents.complete.push(found)
    else if (rest.join('.') === 'partial') contents.partial.push(found)
    else if (offset) contents.closed.push({ ...found, end: parsed.start + BigInt(`0x${offset[1]}`) })
  }
  return contents
}
