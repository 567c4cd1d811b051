import assert from 'node:assert/strict'
import { createHash, type KeyObject, sign } from 'node:crypto'
import type { SealedHeader } from '../model.ts'
import {
  digestOf,
  encodeEnd,
  encodeHead,
  encodeTable,
  endBytes,
  type FrameRow,
  signedMessage,
  tableBytes,
} from './format.ts'
import {
  type FrameKey,
  longestFrameBytes,
  objectKeyOf,
  type SealedFrame,
  sealFrame,
  tagBytes,
} from './frame.ts'
import { encodeHeader } from './header.ts'
import type { FrameWorks } from './pool.ts'

export interface SealedFrameReceipt {
  /** CRC-32C of each piece. */
  crcs: number[]
  /** The buffer that was given, for the next frame. */
  raw: ArrayBuffer
}

export interface SealedObject {
  /** What storage.put takes. */
  parts: Uint8Array[]
  bytes: number
  /** Hex, of the whole object. */
  sha256: string
}

export interface SealedWriter {
  /**
   * Seals the first `length` bytes (1 to 16 MiB) of the buffer, which is moved away until the answer. May be called
   * again before that: the order of calls is the order of frames. A fault is also told by finish().
   * @param pieces lengths of consecutive runs of the raw bytes whose CRC-32C is wanted
   */
  frame(raw: ArrayBuffer, length: number, pieces?: readonly number[]): Promise<SealedFrameReceipt>
  /** How long the object is when it ends with the frames that are answered by now. */
  readonly storedBytes: number
  finish(): Promise<SealedObject>
}

export interface WriterOptions {
  header: Omit<SealedHeader, 'salt'>
  /** 32 random bytes that no other object has. */
  salt: Buffer
  /** Bytes of the data key. */
  dataKey: Uint8Array
  signingKey: KeyObject
  works: FrameWorks
}

const closingBytes = tagBytes + tableBytes(1) + endBytes

export function openWriter(o: WriterOptions): SealedWriter {
  return new ObjectWriter(o)
}

class ObjectWriter implements SealedWriter {
  readonly #compression: 'zstd' | 'none'
  readonly #signingKey: KeyObject
  readonly #works: FrameWorks
  readonly #key: FrameKey
  readonly #parts: Uint8Array[]
  readonly #rows: Omit<FrameRow, 'start'>[] = []
  readonly #hash = createHash('sha256')
  #bytes = 0
  #next = 0
  #finished = false
  /** Settles when every frame so far is in its place. */
  #placed: Promise<unknown> = Promise.resolve()

  constructor({ header, salt, dataKey, signingKey, works }: WriterOptions) {
    const head = encodeHead(encodeHeader(inOrder(header, salt)))
    this.#compression = header.compression
    this.#signingKey = signingKey
    this.#works = works
    this.#key = {
      objectKey: objectKeyOf(dataKey, salt),
      headerHash: createHash('sha256').update(head).digest(),
    }
    this.#parts = []
    this.#push(head)
  }

  get storedBytes(): number {
    return this.#bytes + tableBytes(this.#rows.length) + closingBytes
  }

  frame(raw: ArrayBuffer, length: number, pieces: readonly number[] = []): Promise<SealedFrameReceipt> {
    assert(!this.#finished, 'no frame comes after finish()')
    assert(
      length >= 1 && length <= Math.min(longestFrameBytes, raw.byteLength),
      'a frame has 1 byte to 16 MiB',
    )
    const base = { ...this.#key, index: this.#next++, compression: this.#compression, closing: false, pieces }
    const sealing = this.#works.seal({ ...base, verb: 'seal', raw, length })
    const placed = Promise.all([sealing, this.#placed]).then(([{ sealed, raw }]) => {
      this.#place(sealed)
      return { crcs: sealed.crcs, raw }
    })
    // Nobody has to wait for each frame: finish() waits for all of them.
    placed.catch(() => {})
    this.#placed = placed
    return placed
  }

  async finish(): Promise<SealedObject> {
    assert(!this.#finished, 'an object ends once')
    this.#finished = true
    await this.#placed
    const closing = { index: this.#next, raw: new Uint8Array(), closing: true, pieces: [] }
    this.#place(sealFrame({ ...this.#key, ...closing, compression: 'none' }))
    const table = encodeTable(this.#rows)
    const digest = digestOf(this.#key.headerHash, table)
    const signature = sign(null, signedMessage(digest), this.#signingKey)
    this.#push(table, encodeEnd({ count: this.#rows.length, digest, signature }))
    return { parts: this.#parts, bytes: this.#bytes, sha256: this.#hash.digest('hex') }
  }

  #place({ parts, flags, rawBytes, sha256 }: SealedFrame): void {
    this.#push(...parts)
    const storedBytes = parts[0].length + parts[1].length
    this.#rows.push({ storedBytes, rawBytes, flags, sha256: Buffer.from(sha256) })
  }

  #push(...parts: Uint8Array[]): void {
    for (const part of parts) {
      this.#hash.update(part)
      this.#bytes += part.length
      if (part.length > 0) this.#parts.push(part)
    }
  }
}

/** The header has one spelling, so its properties have one order. */
function inOrder(header: Omit<SealedHeader, 'salt'>, salt: Buffer): SealedHeader {
  const { format, repositoryId, object, kind, dataKey, compression, facts } = header
  return { format, repositoryId, object, kind, dataKey, salt: salt.toString('base64'), compression, facts }
}
