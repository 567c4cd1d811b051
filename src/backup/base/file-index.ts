import { TarReader } from '#postgres/wire/tar.ts'
import { crc32cCombine } from '../envelope/crc32c-combine.ts'

/** A file as it came in an archive. */
export interface IndexedFile {
  archive: string
  /** Within the archive. */
  path: string
  bytes: number
  /** Of the first content byte in the raw archive. */
  offset: number
  /** CRC-32C of what was handed in by `sums` so far. */
  crc: number
}

/** What one frame holds: runs of file content and of what lies between them. */
export interface FrameRuns {
  /** Lengths that cover the frame from its first byte to its last content byte. */
  lengths: number[]
  /** For each length the file it belongs to; undefined for headers and padding. */
  files: (IndexedFile | undefined)[]
}

// A backup_label is some 300 bytes.
const mostLabelBytes = 16 * 1024

/**
 * Learns from the raw bytes of the archives which files they hold and where. Checksums of the runs come back later, from
 * whoever has the bytes then, in the order of the frames.
 */
export class FileIndex {
  readonly files: IndexedFile[] = []
  #archive = ''
  #reader: TarReader | undefined
  #frame: Buffer = Buffer.alloc(0)
  #runs: FrameRuns = { lengths: [], files: [] }
  #covered = 0
  #label: Buffer[] = []
  #labelBytes = 0

  begin(archive: string): void {
    this.#archive = archive
    this.#reader = new TarReader({
      entry: entry => {
        if (entry.type !== 'file') return
        const { path, bytes, contentOffset: offset } = entry
        this.files.push({ archive: this.#archive, path, bytes, offset, crc: 0 })
      },
      data: bytes => this.#data(bytes),
    })
  }

  /** The next bytes of the archive. @throws TAR_INVALID */
  frame(bytes: Buffer): FrameRuns {
    this.#frame = bytes
    this.#runs = { lengths: [], files: [] }
    this.#covered = 0
    this.#reader?.push(bytes)
    return this.#runs
  }

  /** @throws TAR_INVALID when the archive is not complete */
  end(): void {
    this.#reader?.end()
    this.#reader = undefined
  }

  sums(runs: FrameRuns, crcs: readonly number[]): void {
    runs.files.forEach((file, at) => {
      if (file) file.crc = crc32cCombine(file.crc, crcs[at] as number, runs.lengths[at] as number)
    })
  }

  /** Text of `backup_label`; empty when none came. */
  get label(): string {
    return Buffer.concat(this.#label).toString('utf8')
  }

  #data(bytes: Buffer): void {
    const file = this.files.at(-1) as IndexedFile
    const from = bytes.byteOffset - this.#frame.byteOffset
    if (from > this.#covered) this.#run(undefined, from - this.#covered)
    this.#run(file, bytes.length)
    if (file.path === 'backup_label' && file.archive === 'base') this.#keepLabel(bytes)
  }

  #run(file: IndexedFile | undefined, length: number): void {
    this.#runs.lengths.push(length)
    this.#runs.files.push(file)
    this.#covered += length
  }

  #keepLabel(bytes: Buffer): void {
    this.#labelBytes += bytes.length
    // The frame's memory is used again.
    if (this.#labelBytes <= mostLabelBytes) this.#label.push(Buffer.from(bytes))
  }
}
