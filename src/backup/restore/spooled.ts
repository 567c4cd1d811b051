import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { historyName, type Lsn } from '#lib/lsn.ts'
import { isZero, shortHeaderBytes, walPageBytes } from '#postgres/wire/wal-page.ts'
import { closedName, partialName, readSpool, type SpoolContents } from '../archive/spool-directory.ts'

/** What the archive has on this disk of one segment: each byte of `bytes` is known. */
export interface SpooledPiece {
  file: string
  bytes: Buffer
  end: Lsn
}

/** The archive's spool as a restore reads it, whether or not the archive is at work there. */
export class SpoolReader {
  readonly #directory: string
  readonly #segmentBytes: number

  constructor(options: { root: string; systemIdentifier: string; segmentBytes: number }) {
    this.#directory = join(options.root, options.systemIdentifier)
    this.#segmentBytes = options.segmentBytes
  }

  list(): SpoolContents {
    if (!existsSync(this.#directory)) return { complete: [], closed: [], partial: [] }
    return readSpool(this.#directory, this.#segmentBytes)
  }

  /** Undefined when nothing of it is here. The longest, when it is here under several names. */
  async read(segment: string): Promise<SpooledPiece | undefined> {
    const { complete, closed, partial } = this.list()
    const whole = complete.find(one => one.segment === segment)
    if (whole) return this.#piece(segment, whole.start, bytes => bytes.length)
    const ended = closed.find(one => one.segment === segment)
    if (ended) {
      const length = Number(ended.end - ended.start)
      return this.#piece(closedName(segment, length), ended.start, () => length)
    }
    const open = partial.find(one => one.segment === segment)
    return open && this.#piece(partialName(segment), open.start, knownBytes)
  }

  async history(timeline: number): Promise<Buffer | undefined> {
    return this.#readIfThere(historyName(timeline))
  }

  async #piece(
    name: string,
    start: Lsn,
    lengthOf: (bytes: Buffer) => number,
  ): Promise<SpooledPiece | undefined> {
    const bytes = await this.#readIfThere(name)
    if (bytes === undefined) return undefined
    const known = bytes.subarray(0, Math.min(lengthOf(bytes), this.#segmentBytes))
    return { file: join(this.#directory, name), bytes: known, end: start + BigInt(known.length) }
  }

  /** The archive renames and removes files when it likes. */
  async #readIfThere(name: string): Promise<Buffer | undefined> {
    try {
      return await readFile(join(this.#directory, name))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }
}

/**
 * Each byte of an open segment is zero or right, so what is known ends before the first page that never came, even if a
 * later one was on its way to the disk when the power went.
 */
export function knownBytes(bytes: Buffer): number {
  let end = 0
  while (end < bytes.length && !isZero(bytes.subarray(end, end + shortHeaderBytes))) end += walPageBytes
  return withoutZeros(bytes, Math.min(end, bytes.length))
}

/** Zeros that belong to the last record are the same as those behind it. */
function withoutZeros(bytes: Buffer, end: number): number {
  let at = end
  while (at > 0 && bytes[at - 1] === 0) at--
  return at
}
