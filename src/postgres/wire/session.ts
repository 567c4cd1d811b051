import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { systemClock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { wireError } from './errors.ts'
import type { Link } from './login.ts'
import { parseServerWords, queryMessage, type ServerWords, terminateMessage } from './messages.ts'
import type { Notice, OpenOptions } from './model.ts'
import { type MessageHandler, MessageReader, messageType, protocol } from './reader.ts'
import { serverFailure } from './refusals.ts'

/** One command and all that belongs to its answer. Exactly one of ready() and failed() ends it. */
export interface Exchange extends Partial<Pick<MessageHandler, 'copyData'>> {
  /** As errors name it. */
  readonly command: string
  readonly query: string
  message(type: number, body: Buffer): void | Promise<void>
  /** After the messages of one read. */
  turn?(): void | Promise<void>
  /** The server takes the next command; nothing failed. What it throws ends the connection. */
  ready(): void
  failed(error: unknown): void
}

// A goodbye that the server does not take in that time it never will.
const closeWithinMs = 2_000
// Page checksum failures are told one by one before the error; a few say enough.
const mostWarnings = 10

/** One login: sends commands, one at a time, and gives what comes back to the command that asked. */
export class Session {
  readonly #link: Link
  readonly #reader: MessageReader
  readonly #options: OpenOptions
  #exchange: Exchange | undefined
  /** The server's ERROR about the running command; it is over at ReadyForQuery. */
  #refusal: ServerWords | undefined
  #lastWords: ServerWords | undefined
  #warnings: string[] = []
  #broken: unknown
  #closing = false
  #waiting = false
  #heardMs = systemClock.monotonicMs()

  constructor(link: Link, options: OpenOptions) {
    this.#link = link
    this.#options = options
    this.#reader = new MessageReader({
      message: (type, body) => this.#message(type, body),
      copyData: (piece, first, last) => this.#copyData(piece, first, last),
    })
    const { socket } = link
    socket.on('error', error => this.fail(this.#brokenBy(error.message)))
    socket.on('close', () => this.fail(this.#brokenBy(this.#lastWords?.message ?? 'the server ended it')))
    options.signal?.addEventListener('abort', this.#abort, { once: true })
    link.start(chunk => this.#read(chunk))
    if (options.signal?.aborted) this.#abort()
  }

  get serverVersion(): number {
    return this.#link.serverVersion
  }

  get usable(): boolean {
    return this.#broken === undefined && !this.#closing
  }

  /** Milliseconds since the server's last bytes; 0 while the sink keeps us from reading. */
  get silentMs(): number {
    return this.#waiting ? 0 : systemClock.monotonicMs() - this.#heardMs
  }

  /** Sends the command. A broken connection fails the exchange; a second command at once is a mistake of the caller. */
  start(exchange: Exchange): void {
    if (this.#exchange) throw new Error(`${this.#exchange.command} is still running on this connection`)
    if (!this.usable) {
      exchange.failed(this.#brokenFor(exchange))
      return
    }
    this.#warnings = []
    this.#exchange = exchange
    this.#heardMs = systemClock.monotonicMs()
    this.write(queryMessage(exchange.query))
  }

  get unsentBytes(): number {
    return this.#link.socket.writableLength
  }

  write(bytes: Buffer): void {
    if (this.#broken === undefined) this.#link.socket.write(bytes)
  }

  /** Says goodbye when nothing is running, and is gone within two seconds. */
  async close(): Promise<void> {
    const { socket } = this.#link
    const closed = socket.closed ? Promise.resolve() : once(socket, 'close')
    // The error, if any, went to the command that it broke.
    closed.catch(() => {})
    this.#closing = true
    if (this.#exchange)
      this.fail(wireError('WIRE_BROKEN', { command: this.command, reason: 'it was closed' }))
    if (!socket.destroyed) socket.end(terminateMessage)
    await Promise.race([closed.catch(() => {}), delay(closeWithinMs, undefined, { ref: false })])
    this.fail(new Error('closed'))
  }

  /** Ends the connection at once; what is running fails with `error`. Only the first call counts. */
  fail(error: unknown): void {
    if (this.#broken !== undefined) return
    this.#broken = error
    this.#reader.close()
    this.#options.signal?.removeEventListener('abort', this.#abort)
    this.#link.socket.destroy()
    const exchange = this.#exchange
    this.#exchange = undefined
    exchange?.failed(error)
  }

  readonly #abort = () => {
    this.fail(wireError('WIRE_ABORTED', { command: this.command }, { cause: this.#options.signal?.reason }))
  }

  #read(chunk: Buffer): boolean {
    this.#heardMs = systemClock.monotonicMs()
    try {
      const messages = this.#reader.push(chunk)
      const wait = messages ? messages.then(() => this.#turn()) : this.#turn()
      if (!wait) return true
      this.#link.socket.pause()
      this.#waiting = true
      this.#finish(wait)
    } catch (error) {
      this.fail(this.#named(error))
    }
    return false
  }

  /** The rest of a read that the exchange made wait. */
  async #finish(wait: Promise<void>): Promise<void> {
    try {
      await wait
    } catch (error) {
      this.fail(this.#named(error))
    }
    this.#waiting = false
    this.#heardMs = systemClock.monotonicMs()
    if (this.#broken === undefined) this.#link.socket.resume()
  }

  #turn(): Promise<void> | undefined {
    return this.#exchange?.turn?.() ?? undefined
  }

  #message(type: number, body: Buffer): void | Promise<void> {
    if (type === messageType.parameterStatus || type === messageType.notification) return
    if (type === messageType.noticeResponse) return this.#notice(parseServerWords(body))
    if (type === messageType.errorResponse) return this.#error(parseServerWords(body))
    if (!this.#exchange) throw protocol(`message ${String.fromCharCode(type)} without a command`)
    if (type === messageType.readyForQuery) return this.#end(this.#exchange)
    return this.#exchange.message(type, body)
  }

  #copyData(piece: Buffer, first: boolean, last: boolean): void | Promise<void> {
    if (!this.#exchange?.copyData) throw protocol('copy data that nobody asked for')
    return this.#exchange.copyData(piece, first, last)
  }

  #notice(words: ServerWords): void {
    const { severity, message } = words
    if (severity === 'WARNING' && this.#warnings.length < mostWarnings) this.#warnings.push(message)
    const notice: Notice = words
    this.#options.onNotice?.(notice)
  }

  // ERROR is about the command and ReadyForQuery follows; after anything worse the server hangs up.
  #error(words: ServerWords): void {
    if (words.severity === 'ERROR' && this.#exchange) this.#refusal ??= words
    else this.#lastWords ??= words
  }

  #end(exchange: Exchange): void {
    const refusal = this.#refusal
    this.#refusal = undefined
    this.#exchange = undefined
    try {
      if (refusal) exchange.failed(serverFailure(refusal, exchange.command, this.#warnings))
      else exchange.ready()
    } catch (error) {
      const named = this.#named(error, exchange.command)
      exchange.failed(named)
      throw named
    }
  }

  /** What is running now, as errors name it. */
  get command(): string {
    return this.#exchange?.command ?? 'no command'
  }

  #brokenBy(reason: string): Failure {
    const { sqlState = '' } = this.#lastWords ?? {}
    return wireError('WIRE_BROKEN', {
      command: this.command,
      reason: this.#lastWords?.message ?? reason,
      sqlState,
    })
  }

  #brokenFor({ command }: Exchange): unknown {
    const before = this.#broken
    const reason = before instanceof Failure && before.code === 'WIRE_BROKEN' ? before.facts.reason : before
    return wireError('WIRE_BROKEN', { command, reason: reason ?? 'it was closed' }, { cause: before })
  }

  /** A reader does not know which command it reads for. */
  #named(error: unknown, command = this.command): unknown {
    if (!(error instanceof Failure) || error.code !== 'WIRE_PROTOCOL' || error.facts.command) return error
    return wireError('WIRE_PROTOCOL', { ...error.facts, command }, { cause: error })
  }
}
