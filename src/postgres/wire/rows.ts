import { parseRow, type Row } from './messages.ts'
import { messageType, mostMessageBytes, protocol } from './reader.ts'
import type { Exchange } from './session.ts'

/** Gathers results of a command: small ones, so more than one message may have is refused. */
export class Results {
  /** One list of rows for each RowDescription. */
  readonly tables: Row[][] = []
  #bytes = 0

  /** Whether the message belonged to a result. */
  take(type: number, body: Buffer): boolean {
    if (type === messageType.rowDescription) this.tables.push([])
    else if (type === messageType.dataRow) this.#row(body)
    else return type === messageType.commandComplete
    return true
  }

  #row(body: Buffer): void {
    const table = this.tables.at(-1)
    this.#bytes += body.length
    if (!table) throw protocol('a row without a description')
    if (this.#bytes > mostMessageBytes) throw protocol(`results of more than ${mostMessageBytes} bytes`)
    table.push(parseRow(body))
  }
}

/** A command whose answer is rows. */
export class RowsExchange implements Exchange {
  readonly command: string
  readonly query: string
  readonly done: Promise<Row[][]>
  readonly #results = new Results()
  readonly #settle: { resolve(tables: Row[][]): void; reject(error: unknown): void }

  constructor(command: string, query: string) {
    this.command = command
    this.query = query
    const { promise, resolve, reject } = Promise.withResolvers<Row[][]>()
    this.done = promise
    this.#settle = { resolve, reject }
  }

  message(type: number, body: Buffer): void {
    if (!this.#results.take(type, body)) throw protocol(`message ${String.fromCharCode(type)} between rows`)
  }

  ready(): void {
    this.#settle.resolve(this.#results.tables)
  }

  failed(error: unknown): void {
    this.#settle.reject(error)
  }
}
