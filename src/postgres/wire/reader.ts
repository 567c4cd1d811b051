import { wireError } from './errors.ts'

/** Types of the messages that a server sends after the login (PostgreSQL 18, 54.7 Message Formats). */
export const messageType = {
  notification: code('A'),
  commandComplete: code('C'),
  dataRow: code('D'),
  errorResponse: code('E'),
  copyOutResponse: code('H'),
  emptyQuery: code('I'),
  noticeResponse: code('N'),
  parameterStatus: code('S'),
  rowDescription: code('T'),
  copyBothResponse: code('W'),
  readyForQuery: code('Z'),
  copyDone: code('c'),
  copyData: code('d'),
} as const

// The server's largest are a history file in one row and 128 KiB of WAL; what is longer is no message of PostgreSQL.
export const mostMessageBytes = 16 * 1024 * 1024

const headerBytes = 5
const knownTypes = new Set<number>(Object.values(messageType))

/** Bytes are only valid until the method returns or its promise settles; while it waits nothing more is read. */
export interface MessageHandler {
  message(type: number, body: Buffer): void | Promise<void>
  /** CopyData in pieces, as they arrive. */
  copyData(piece: Buffer, first: boolean, last: boolean): void | Promise<void>
}

/**
 * Cuts a byte stream into messages, wherever it was split. CopyData is handed on piece by piece out of the chunk it came
 * in, so nothing of it is copied or gathered; other messages are, up to mostMessageBytes. @throws WIRE_PROTOCOL
 */
export class MessageReader {
  readonly #handler: MessageHandler
  readonly #header = Buffer.alloc(headerBytes)
  #headerFilled = 0
  #chunk: Buffer = Buffer.alloc(0)
  #at = 0
  /** 0 between messages. */
  #type = 0
  /** Of the body, still to come. */
  #left = 0
  #first = false
  /** A body that came in several chunks. */
  #gathered: Buffer | undefined
  #closed = false

  constructor(handler: MessageHandler) {
    this.#handler = handler
  }

  /** Handles all of `chunk`; a promise when the handler made it wait. One call at a time. */
  push(chunk: Buffer): Promise<void> | undefined {
    this.#chunk = chunk
    this.#at = 0
    const wait = this.#advance()
    return wait ? this.#goOn(wait) : undefined
  }

  /** The handler is called no more, whatever is left of the chunk. */
  close(): void {
    this.#closed = true
  }

  async #goOn(first: Promise<void>): Promise<void> {
    for (let wait: Promise<void> | undefined = first; wait; wait = this.#advance()) await wait
  }

  #advance(): Promise<void> | undefined {
    while (!this.#closed && this.#at < this.#chunk.length) {
      if (this.#type === 0 && !this.#readHeader()) return undefined
      const wait = this.#type === messageType.copyData ? this.#handPiece() : this.#handMessage()
      if (wait) return wait
    }
    return undefined
  }

  /** Whether it is complete. */
  #readHeader(): boolean {
    const bytes = Math.min(headerBytes - this.#headerFilled, this.#chunk.length - this.#at)
    this.#chunk.copy(this.#header, this.#headerFilled, this.#at, this.#at + bytes)
    this.#headerFilled += bytes
    this.#at += bytes
    if (this.#headerFilled < headerBytes) return false
    this.#headerFilled = 0
    const type = this.#header[0] as number
    const length = this.#header.readUInt32BE(1)
    if (!knownTypes.has(type)) throw protocol(`a message of unknown type ${type}`)
    // The length counts itself.
    if (length < 4 || length > mostMessageBytes) throw protocol(`a message of ${length} bytes`)
    this.#type = type
    this.#left = length - 4
    this.#first = true
    return true
  }

  #handPiece(): void | Promise<void> {
    const bytes = Math.min(this.#left, this.#chunk.length - this.#at)
    if (bytes === 0 && this.#left > 0) return
    const first = this.#first
    const piece = this.#take(bytes)
    this.#first = false
    this.#left -= bytes
    if (this.#left === 0) this.#type = 0
    return this.#handler.copyData(piece, first, this.#left === 0)
  }

  #handMessage(): void | Promise<void> {
    const available = this.#chunk.length - this.#at
    if (!this.#gathered && available >= this.#left) return this.#hand(this.#take(this.#left))
    this.#gathered ??= Buffer.allocUnsafe(this.#left)
    const bytes = Math.min(this.#left, available)
    this.#take(bytes).copy(this.#gathered, this.#gathered.length - this.#left)
    this.#left -= bytes
    return this.#left === 0 ? this.#hand(this.#gathered) : undefined
  }

  #hand(body: Buffer): void | Promise<void> {
    const type = this.#type
    this.#type = 0
    this.#gathered = undefined
    return this.#handler.message(type, body)
  }

  #take(bytes: number): Buffer {
    this.#at += bytes
    return this.#chunk.subarray(this.#at - bytes, this.#at)
  }
}

/** The one way to say that the bytes make no sense; the session adds the command. */
export function protocol(reason: string) {
  return wireError('WIRE_PROTOCOL', { reason })
}

function code(letter: string): number {
  return letter.charCodeAt(0)
}
