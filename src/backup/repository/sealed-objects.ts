import { type KeyObject, randomBytes } from 'node:crypto'
import type { Storage } from '#storage/storage.ts'
import { requireSound } from '../envelope/damage.ts'
import { prefixBytes, readHeaderLength } from '../envelope/format.ts'
import { defaultFrameBytes, release } from '../envelope/frame.ts'
import { longestHeaderBytes, parseHeader } from '../envelope/header.ts'
import { type FrameWorks, onThisThread, type SealPool } from '../envelope/pool.ts'
import { openFrames, type ProvenObject, prove } from '../envelope/reader.ts'
import { openWriter, type SealedWriter } from '../envelope/writer.ts'
import type { DataKey } from '../keys/data-keys.ts'
import {
  formatVersion,
  type ObjectFacts,
  type SealedFacts,
  type SealedHeader,
  type SealedKind,
} from '../model.ts'
import { named, naming } from './damage.ts'
import type { DataKeys } from './data-keys.ts'

export interface SealOptions {
  /** Key under which the object will be stored. */
  object: string
  kind: SealedKind
  facts: SealedFacts
  dataKey: DataKey
  compression?: 'zstd' | 'none'
  pool: SealPool
}

export interface WriteSealedOptions extends Omit<SealOptions, 'pool'> {
  bytes: Uint8Array
  /** Without it the work is done on this thread, 2 MiB at a time. */
  pool?: SealPool
}

export interface ReadOptions {
  /** Without it the work is done on this thread, frame by frame. */
  pool?: SealPool
  /** From a signed marker. */
  expect?: ObjectFacts
}

// What most headers fit in, so that a listing costs one request for each object.
const usualHeaderBytes = 2048
// The largest WAL segment; the frames of one object can claim more and no honest one does.
const longestContentBytes = 1024 * 1024 * 1024

/** Reading and writing of sealed objects in one repository. */
export class SealedObjects {
  readonly #o: { storage: Storage; repositoryId: string; signer: KeyObject; dataKeys: DataKeys }

  constructor(o: { storage: Storage; repositoryId: string; signer: KeyObject; dataKeys: DataKeys }) {
    this.#o = o
  }

  seal(o: Omit<SealOptions, 'pool'>, works: FrameWorks, signingKey: KeyObject): SealedWriter {
    const { object, kind, facts, compression = 'zstd', dataKey } = o
    const header = {
      format: formatVersion,
      repositoryId: this.#o.repositoryId,
      ...{ object, kind, facts, compression, dataKey: dataKey.id },
    } satisfies Omit<SealedHeader, 'salt'>
    return openWriter({ header, salt: randomBytes(32), dataKey: dataKey.bytes, signingKey, works })
  }

  async write(
    { bytes, pool, ...o }: WriteSealedOptions,
    signingKey: KeyObject,
  ): Promise<{ created: boolean; bytes: number; sha256: string }> {
    const writer = this.seal(o, pool ?? onThisThread, signingKey)
    for (let at = 0; at < bytes.length; at += defaultFrameBytes) {
      // A copy, since a frame is moved to its thread and the caller keeps its bytes.
      const raw = new Uint8Array(bytes.subarray(at, at + defaultFrameBytes))
      const placed = writer.frame(raw.buffer, raw.length)
      // On this thread one after the other; a pool takes them all.
      if (!pool) await placed
    }
    const { parts, bytes: stored, sha256 } = await writer.finish()
    return { created: await this.#o.storage.putNew(o.object, parts), bytes: stored, sha256 }
  }

  async read(
    object: string,
    { pool, expect }: ReadOptions,
  ): Promise<{ header: SealedHeader; bytes: Buffer }> {
    const proven = await this.#prove(object, expect)
    const dataKey = await this.#o.dataKeys.get(proven.header.dataKey, object)
    const works = pool ?? onThisThread
    const ahead = pool ? pool.threads * 2 : 1
    const parts = await naming(object, () =>
      Array.fromAsync(openFrames({ object: proven, dataKey: dataKey.bytes, works, ahead })),
    )
    return { header: proven.header, bytes: parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts) }
  }

  async *frames(
    object: string,
    { pool, expect }: { pool: SealPool; expect?: ObjectFacts },
  ): AsyncGenerator<Buffer> {
    const proven = await this.#prove(object, expect)
    const dataKey = await this.#o.dataKeys.get(proven.header.dataKey, object)
    try {
      // One frame more than there are threads, so that none waits for the one who takes the frames.
      yield* openFrames({ object: proven, dataKey: dataKey.bytes, works: pool, ahead: pool.threads + 1 })
    } catch (error) {
      throw named(object, error)
    } finally {
      release(proven.bytes)
    }
  }

  inspect(object: string): Promise<SealedHeader> {
    return naming(object, async () => {
      const begin = await this.#o.storage.get(object, { offset: 0, length: usualHeaderBytes })
      const end = prefixBytes + readHeaderLength(begin)
      const whole =
        end <= begin.length
          ? begin
          : await this.#o.storage.get(object, { offset: 0, length: prefixBytes + longestHeaderBytes })
      requireSound(whole.length >= end, 'it is cut off')
      return parseHeader(whole.subarray(prefixBytes, end))
    })
  }

  async check(object: string, expect?: ObjectFacts): Promise<SealedHeader> {
    return (await this.#prove(object, expect, true)).header
  }

  #prove(object: string, facts?: ObjectFacts, thorough = false): Promise<ProvenObject> {
    const { storage, repositoryId, signer } = this.#o
    return naming(object, async () => {
      const bytes = await storage.get(object)
      const proven = prove(bytes, { object, repositoryId, signer, thorough, ...(facts && { facts }) })
      const content = proven.frames.reduce((sum, frame) => sum + frame.rawBytes, 0)
      requireSound(content <= longestContentBytes, 'its content is too long')
      return proven
    })
  }
}
