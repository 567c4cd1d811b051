import { createHash, type KeyObject, verify } from 'node:crypto'
import type { ObjectFacts } from '../model.ts'
import { requireSound } from './damage.ts'
import { type FrameRow, type SealedParts, signedMessage, takeApart } from './format.ts'
import { type FrameKey, objectKeyOf } from './frame.ts'
import type { FrameWorks } from './pool.ts'

export interface Expected {
  /** Where the object was found. */
  object: string
  repositoryId: string
  signer: KeyObject
  /** What the signed marker of a backup says about it. */
  facts?: ObjectFacts
  /** Look at each frame even where the facts vouch for all of them: finds what was wrong before it was stored. */
  thorough?: boolean
}

/** A whole object of which every byte is proven to be what the signer wrote to this place. */
export interface ProvenObject extends SealedParts {
  bytes: Buffer
}

/** Proves place, signature and every hash; needs no secret. @throws Damage */
export function prove(bytes: Buffer, expected: Expected): ProvenObject {
  const { facts } = expected
  if (facts) checkFacts(bytes, facts)
  const parts = takeApart(bytes)
  const { header, digest, signature } = parts
  requireSound(
    verify(null, signedMessage(digest), expected.signer, signature),
    'it is not signed by the signer',
  )
  requireSound(header.repositoryId === expected.repositoryId, 'it belongs to another repository')
  requireSound(header.object === expected.object, `it belongs at ${header.object}`)
  // Facts cover the whole object, so its frames need not be hashed once more.
  if (!facts || expected.thorough) checkFrames(bytes, parts.frames)
  return { ...parts, bytes }
}

function checkFrames(bytes: Buffer, frames: readonly FrameRow[]): void {
  for (const [index, row] of frames.entries())
    requireSound(sha256(storedFrame(bytes, row)).equals(row.sha256), `frame ${index} was changed`)
}

function checkFacts(bytes: Buffer, facts: ObjectFacts): void {
  requireSound(bytes.length === facts.bytes, `it has ${bytes.length} bytes instead of ${facts.bytes}`)
  requireSound(sha256(bytes).toString('hex') === facts.sha256, 'it is another one than the backup wrote')
}

/** Raw bytes of the frames in order; `ahead` of them are opened before they are asked for. @throws Damage */
export async function* openFrames(o: {
  object: ProvenObject
  /** Bytes of the data key. */
  dataKey: Uint8Array
  works: FrameWorks
  ahead: number
}): AsyncGenerator<Buffer> {
  const { header, headerHash, frames } = o.object
  const key = { headerHash, objectKey: objectKeyOf(o.dataKey, Buffer.from(header.salt, 'base64')) }
  const opening: Promise<Buffer>[] = []
  let next = 0
  const openNext = () => {
    const frame = openFrameAt(o, key, next++)
    // Of several that fail, the first one is told.
    frame.catch(() => {})
    opening.push(frame)
  }
  while (next < Math.min(o.ahead, frames.length)) openNext()
  for (let frame = opening.shift(); frame; frame = opening.shift()) {
    const raw = await frame
    if (next < frames.length) openNext()
    if (raw.length > 0) yield raw
  }
}

function openFrameAt(
  { object, works }: { object: ProvenObject; works: FrameWorks },
  key: FrameKey,
  index: number,
): Promise<Buffer> {
  const row = object.frames[index] as FrameRow
  const place = { index, rawBytes: row.rawBytes, flags: row.flags }
  // A copy, since what is moved to a worker is gone here and the frame lies within the object.
  const stored = new Uint8Array(storedFrame(object.bytes, row)).buffer
  return works.open({ ...key, verb: 'open', place, stored })
}

function storedFrame(bytes: Buffer, { start, storedBytes }: FrameRow): Buffer {
  return bytes.subarray(start, start + storedBytes)
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
