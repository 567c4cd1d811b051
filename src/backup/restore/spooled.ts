import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { historyName, type Lsn } from '#lib/lsn.ts'
import { isZero, shortHeaderBytes, walPageBytes } from '#postgres/wire/wal-page.ts'
import { walkRecords } from '#postgres/wire/wal-records.ts'
import {
  closedName,
  partialName,
  readFlushed,
  readSpool,
  type SpoolContents,
} from '../archive/spool-directory.ts'
import { tornEnd } from './torn-end.ts'

/** What the archive has on this disk of one segment. */
export interface SpooledPiece {
  file: string
  /** Whole pages, as far as they are known. */
  bytes: Buffer
  /** Behind the last byte that is known. */
  end: Lsn
  /** Of an open segment: everything before it is here, or was lost since. */
  flushed?: Lsn
  /** The end is where a power cut tore what was being written, and nothing from there on was confirmed. */
  isTorn?: boolean
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
    // Before the bytes: the archive may be at work, and what it notes meanwhile is not in what was read.
    const noted = existsSync(this.#directory) ? readFlushed(this.#directory) : undefined
    const { complete, closed, partial } = this.list()
    const whole = complete.find(one => one.segment === segment)
    if (whole) return this.#piece(segment, whole.start, bytes => ({ bytes, end: bytes.length }))
    const ended = closed.find(one => one.segment === segment)
    if (ended) {
      const length = Number(ended.end - ended.start)
      const cut = (bytes: Buffer) => ({ bytes: bytes.subarray(0, length), end: length })
      return this.#piece(closedName(segment, length), ended.start, cut)
    }
    const open = partial.find(one => one.segment === segment)
    if (!open) return undefined
    // A note about another segment is older than this one, or is one that a power cut kept from being written.
    const flushed = open.start + BigInt(noted?.segment === segment ? noted.offset : 0)
    return this.#piece(partialName(segment), open.start, bytes => this.#known(bytes, open.start, flushed))
  }

  async history(timeline: number): Promise<Buffer | undefined> {
    return this.#readIfThere(historyName(timeline))
  }

  async #piece(
    name: string,
    start: Lsn,
    known: (bytes: Buffer) => Omit<SpooledPiece, 'file' | 'end'> & { end: number },
  ): Promise<SpooledPiece | undefined> {
    const content = await this.#readIfThere(name)
    if (content === undefined) return undefined
    const { end, ...piece } = known(content)
    return { file: join(this.#directory, name), ...piece, end: start + BigInt(end) }
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

  /** Zeros may end a record: only its checksum tells. */
  #known(bytes: Buffer, start: Lsn, flushed: Lsn) {
    const pages = knownPages(bytes)
    const summary = walkRecords(pages, { start, segmentBytes: this.#segmentBytes })
    const torn = tornEnd(pages, { start, flushed, summary })
    if (torn !== undefined) return { bytes: cutAt(pages, torn), end: torn, flushed, isTorn: true }
    const end = Math.max(withoutZeros(pages), Math.min(Number(summary.lastRecordEnd - start), pages.length))
    return { bytes: pages, end, flushed }
  }
}

/**
 * Each byte of an open segment is zero or right, so what is known ends before the first page that never came, even if a
 * later one was on its way to the disk when the power went. A server may have flushed the header of a page before what
 * goes on there: such a page says nothing.
 */
function knownPages(bytes: Buffer): Buffer {
  let end = 0
  while (end < bytes.length && !isZero(bytes.subarray(end, end + shortHeaderBytes))) end += walPageBytes
  if (end > walPageBytes && isZero(bytes.subarray(end - walPageBytes + shortHeaderBytes, end)))
    end -= walPageBytes
  return bytes.subarray(0, end)
}

/** Whole pages, with zeros from the position on. */
function cutAt(pages: Buffer, end: number): Buffer {
  return Buffer.from(pages.subarray(0, Math.ceil(end / walPageBytes) * walPageBytes)).fill(0, end)
}

function withoutZeros(bytes: Buffer): number {
  let at = bytes.length
  while (at > 0 && bytes[at - 1] === 0) at--
  return at
}
