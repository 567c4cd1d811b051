import { integerOf, lsnOf, quoteText, type Row, textOf } from './messages.ts'
import type { BaseBackupOptions, BaseBackupSink, TablespaceFacts, WalPosition } from './model.ts'
import { messageType, protocol } from './reader.ts'
import { Results } from './rows.ts'
import type { Exchange } from './session.ts'

export interface BaseBackupResult {
  start: WalPosition
  end: WalPosition
}

// The longest is an archive's name with a tablespace path, and paths end at 1024 bytes.
const mostNoteBytes = 8 * 1024
const kind = { archive: 0x6e, data: 0x64, manifest: 0x6d, progress: 0x70 } as const

/** The BASE_BACKUP command for PostgreSQL 15 and newer. @throws TypeError on a label that would spoil backup_label */
export function baseBackupQuery(options: BaseBackupOptions): string {
  const { label, checkpoint = 'fast', wal = false, manifestChecksums = 'CRC32C', maxRateKilobytes } = options
  if (/[\0\r\n]/.test(label)) throw new TypeError('a backup label of more than one line')
  const clauses = [
    `LABEL ${quoteText(label)}`,
    `CHECKPOINT '${checkpoint}'`,
    'PROGRESS true',
    `WAL ${wal}`,
    // For an archiver of the server's own; ours follows the stream.
    'WAIT false',
    "MANIFEST 'yes'",
    `MANIFEST_CHECKSUMS '${manifestChecksums}'`,
    'TABLESPACE_MAP true',
    `VERIFY_CHECKSUMS ${options.verifyChecksums ?? true}`,
    ...(maxRateKilobytes === undefined ? [] : [`MAX_RATE ${maxRateKilobytes}`]),
  ]
  return `BASE_BACKUP (${clauses.join(', ')})`
}

/** The answer to BASE_BACKUP, message by message (54.4 Streaming Replication Protocol). */
export class BaseBackupExchange implements Exchange {
  readonly command = 'BASE_BACKUP'
  readonly query: string
  readonly done: Promise<BaseBackupResult>
  readonly #settle: { resolve(result: BaseBackupResult): void; reject(error: unknown): void }
  readonly #sink: BaseBackupSink
  readonly #results = new Results()
  #copying: 'before' | 'archives' | 'manifest' | 'after' = 'before'
  #archives = 0
  #start: WalPosition | undefined
  /** Kind of the CopyData that is coming in. */
  #kind = 0
  #note: Buffer[] = []
  #noteBytes = 0

  constructor(query: string, sink: BaseBackupSink) {
    this.query = query
    this.#sink = sink
    const { promise, resolve, reject } = Promise.withResolvers<BaseBackupResult>()
    this.done = promise
    this.#settle = { resolve, reject }
  }

  message(type: number, body: Buffer): void | Promise<void> {
    if (this.#results.take(type, body)) return
    if (type === messageType.copyOutResponse && this.#copying === 'before') return this.#begin()
    if (type !== messageType.copyDone || this.#copying !== 'manifest')
      throw protocol(`message ${String.fromCharCode(type)} ${this.#copying} the archives`)
    this.#copying = 'after'
  }

  copyData(piece: Buffer, first: boolean, last: boolean): void | Promise<void> {
    if (!first) return this.#kind === kind.data ? this.#data(piece) : this.#gather(piece, last)
    if (this.#copying === 'before' || this.#copying === 'after' || piece.length === 0)
      throw protocol('copy data out of place')
    this.#kind = piece[0] as number
    const rest = piece.subarray(1)
    return this.#kind === kind.data ? this.#data(rest) : this.#gather(rest, last)
  }

  ready(): void {
    if (this.#copying !== 'after' || !this.#start) throw protocol('an end before the archives were complete')
    const end = positionOf(this.#results.tables[2]?.[0])
    this.#settle.resolve({ start: this.#start, end })
  }

  failed(error: unknown): void {
    this.#settle.reject(error)
  }

  #begin(): void | Promise<void> {
    const [starts, tablespaces] = this.#results.tables
    if (!tablespaces) throw protocol('archives before the list of them')
    this.#start = positionOf(starts?.[0])
    this.#copying = 'archives'
    return this.#sink.begin({ ...this.#start, tablespaces: tablespaces.map(tablespaceOf) })
  }

  #data(bytes: Buffer): void | Promise<void> {
    if (bytes.length === 0) return
    if (this.#copying === 'manifest') return this.#sink.manifestData(bytes)
    if (this.#archives === 0) throw protocol('data before the first archive')
    return this.#sink.data(bytes)
  }

  #gather(piece: Buffer, last: boolean): void | Promise<void> {
    this.#noteBytes += piece.length
    if (this.#noteBytes > mostNoteBytes) throw protocol(`a note of more than ${mostNoteBytes} bytes`)
    // The bytes are used again after this call, and a note is seldom split.
    this.#note.push(Buffer.from(piece))
    if (!last) return
    const note = Buffer.concat(this.#note)
    this.#note = []
    this.#noteBytes = 0
    return this.#noted(note)
  }

  #noted(note: Buffer): void | Promise<void> {
    if (this.#kind === kind.progress && note.length === 8)
      return this.#sink.progress(Number(note.readBigInt64BE(0)))
    if (this.#copying === 'archives' && this.#kind === kind.archive) return this.#archive(note)
    if (this.#copying === 'archives' && this.#kind === kind.manifest && note.length === 0) {
      this.#copying = 'manifest'
      return this.#sink.manifest()
    }
    throw protocol(`copy data of kind ${this.#kind} (${note.length} bytes) within the ${this.#copying}`)
  }

  #archive(note: Buffer): void | Promise<void> {
    const texts = note.toString('utf8').split('\0')
    const [name, path] = texts
    // Both texts end with a zero, so there is an empty third.
    if (texts.length !== 3 || texts[2] !== '' || !name) throw protocol('an archive without a name')
    this.#archives++
    return this.#sink.archive(name, path ?? '')
  }
}

function positionOf(row: Row | undefined): WalPosition {
  return { lsn: lsnOf(row, 0), timeline: integerOf(row, 1) }
}

function tablespaceOf(row: Row): TablespaceFacts {
  const oid = textOf(row, 0)
  const path = textOf(row, 1)
  return {
    ...(oid === undefined ? {} : { oid }),
    ...(path === undefined ? {} : { path }),
    ...(row[2] == null ? {} : { kilobytes: integerOf(row, 2) }),
  }
}
