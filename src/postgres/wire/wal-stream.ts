import { systemClock } from '#lib/clock.ts'
import { formatLsn, type Lsn } from '#lib/lsn.ts'
import { wireError } from './errors.ts'
import { copyDoneMessage, integerOf, lsnOf, quoteName, statusMessage } from './messages.ts'
import type { StreamOptions, TimelineEnd, WalSink, WalStream } from './model.ts'
import { messageType, protocol } from './reader.ts'
import { Results } from './rows.ts'
import type { Exchange, Session } from './session.ts'

// wal_sender_timeout may be as short as 5 s here, and nothing is confirmed while the sink holds us up.
const statusEveryMs = 1_000
// Two or three unanswered questions and a margin for a stalled machine.
const defaultSilenceMs = 30_000
// What the server has not read of our confirmations; one is 39 bytes.
const mostUnsentBytes = 64 * 1024
const stopWithinMs = 5_000

const kind = { data: 0x77, keepalive: 0x6b } as const
const headerBytes = { [kind.data]: 25, [kind.keepalive]: 18 } as const

function startReplicationQuery({ slot, start, timeline }: StreamOptions): string {
  const from = slot === undefined ? '' : `SLOT ${quoteName(slot)} `
  return `START_REPLICATION ${from}PHYSICAL ${formatLsn(start)} TIMELINE ${timeline}`
}

/** The answer to START_REPLICATION PHYSICAL, and the confirmations that go the other way meanwhile. */
export class WalExchange implements Exchange, WalStream {
  readonly command = 'START_REPLICATION'
  readonly query: string
  /** Resolves when the server streams, or when there was nothing left on the timeline. */
  readonly started: Promise<WalStream>
  readonly ended: Promise<TimelineEnd | 'stopped'>
  readonly #start: ReturnType<typeof Promise.withResolvers<WalStream>>
  readonly #end: ReturnType<typeof Promise.withResolvers<TimelineEnd | 'stopped'>>
  readonly #session: Session
  readonly #sink: WalSink
  readonly #silenceMs: number
  readonly #results = new Results()
  /** closing: the server has sent all it will. */
  #copying: 'before' | 'streaming' | 'closing' | 'over' = 'before'
  #timer: NodeJS.Timeout | undefined
  #stopped = false
  #touched = false
  #position: { write: Lsn; flush: Lsn; apply: Lsn } = { write: 0n, flush: 0n, apply: 0n }
  #confirmed = false
  readonly #header = Buffer.alloc(headerBytes[kind.data])
  #headerFilled = 0
  /** Where the next byte of the stream belongs. */
  #next: Lsn
  #serverEnd: Lsn = 0n

  constructor(session: Session, options: StreamOptions, sink: WalSink) {
    this.query = startReplicationQuery(options)
    this.#session = session
    this.#sink = sink
    this.#silenceMs = options.serverSilenceMs ?? defaultSilenceMs
    this.#next = options.start
    this.#start = Promise.withResolvers()
    this.#end = Promise.withResolvers()
    this.started = this.#start.promise
    this.ended = this.#end.promise
    // Who stops a stream or sees its start fail need not look at its end.
    this.ended.catch(() => {})
  }

  confirm(position: { write: Lsn; flush: Lsn; apply?: Lsn }, replyNow = false): void {
    const { write, flush, apply = 0n } = position
    this.#position = { write, flush, apply }
    this.#confirmed = true
    this.#sendStatus(replyNow)
  }

  async stop(): Promise<void> {
    if (!this.#stopped && this.#copying === 'streaming') this.#session.write(copyDoneMessage)
    this.#stopped = true
    const late = setTimeout(
      () =>
        this.#session.fail(wireError('WIRE_BROKEN', { command: this.command, reason: 'it did not stop' })),
      stopWithinMs,
    )
    await this.ended.catch(() => {})
    clearTimeout(late)
  }

  message(type: number, body: Buffer): void {
    if (type === messageType.copyBothResponse && this.#copying === 'before') this.#begin()
    else if (type === messageType.copyDone && this.#copying === 'streaming') this.#lastHeard()
    else if (!this.#results.take(type, body))
      throw protocol(`message ${String.fromCharCode(type)} out of place`)
  }

  copyData(piece: Buffer, first: boolean, last: boolean): void | Promise<void> {
    if (this.#copying !== 'streaming') throw protocol('WAL out of place')
    if (first) this.#headerFilled = 0
    const rest = this.#fillHeader(piece)
    const type = this.#header[0] as number
    if (this.#headerFilled < this.#headerBytes()) {
      if (last) throw protocol('a WAL message that ends in its header')
      return
    }
    if (type === kind.data) return this.#data(rest)
    if (rest.length > 0 || !last) throw protocol('a keepalive that is too long')
    return this.#keepalive()
  }

  turn(): void | Promise<void> {
    if (!this.#touched || this.#stopped) return
    this.#touched = false
    return this.#sink.turn()
  }

  ready(): void {
    const row = this.#results.tables[0]?.[0]
    if (!this.#stopped && !row) throw protocol('an end of the stream without a next timeline')
    const end = row ? { nextTimeline: integerOf(row, 0), switchLsn: lsnOf(row, 1) } : undefined
    this.#over()
    this.#start.resolve(this)
    this.#end.resolve(this.#stopped || !end ? 'stopped' : end)
  }

  failed(error: unknown): void {
    this.#over()
    this.#start.reject(error)
    if (this.#stopped) this.#end.resolve('stopped')
    else this.#end.reject(error)
  }

  #begin(): void {
    this.#copying = 'streaming'
    if (this.#stopped) this.#session.write(copyDoneMessage)
    this.#timer = setInterval(() => this.#tick(), statusEveryMs)
    this.#start.resolve(this)
  }

  /** The server has sent all of its timeline, or has seen our stop. */
  #lastHeard(): void {
    this.#copying = 'closing'
    if (!this.#stopped) this.#session.write(copyDoneMessage)
  }

  #over(): void {
    this.#copying = 'over'
    clearInterval(this.#timer)
  }

  #fillHeader(piece: Buffer): Buffer {
    let at = 0
    // The first byte tells how many there are.
    while (at < piece.length && (this.#headerFilled === 0 || this.#headerFilled < this.#headerBytes()))
      this.#header[this.#headerFilled++] = piece[at++] as number
    if (this.#headerFilled === this.#headerBytes() && at > 0) this.#headerRead()
    return piece.subarray(at)
  }

  #headerBytes(): number {
    const type = this.#header[0]
    if (this.#headerFilled === 0) return 1
    if (type !== kind.data && type !== kind.keepalive) throw protocol(`a WAL message of kind ${type}`)
    return headerBytes[type]
  }

  #headerRead(): void {
    const isData = this.#header[0] === kind.data
    this.#serverEnd = this.#header.readBigUInt64BE(isData ? 9 : 1)
    if (!isData) return
    const start = this.#header.readBigUInt64BE(1)
    if (start !== this.#next)
      throw protocol(`WAL from ${formatLsn(start)} where ${formatLsn(this.#next)} was next`)
  }

  #data(bytes: Buffer): void | Promise<void> {
    const start = this.#next
    this.#next += BigInt(bytes.length)
    if (bytes.length === 0 || this.#stopped) return
    this.#touched = true
    return this.#sink.data(start, bytes, this.#serverEnd)
  }

  #keepalive(): void {
    if (this.#stopped) return
    const replyNow = this.#header[17] === 1
    this.#touched = true
    this.#confirmed = false
    this.#sink.keepalive(this.#serverEnd, replyNow)
    if (replyNow && !this.#confirmed) this.#sendStatus(false)
  }

  /** Repeats the last position, so that a slow sink is not taken for a dead one, and looks for a dead server. */
  #tick(): void {
    const silent = this.#session.silentMs
    if (silent > this.#silenceMs)
      this.#session.fail(wireError('WIRE_SILENT', { command: this.command, silentMs: Math.round(silent) }))
    else this.#sendStatus(silent > this.#silenceMs / 3)
  }

  #sendStatus(replyNow: boolean): void {
    if (this.#copying !== 'streaming' || this.#stopped || this.#session.unsentBytes > mostUnsentBytes) return
    const nowMs = systemClock.now().getTime()
    this.#session.write(statusMessage({ ...this.#position, nowMs, replyNow }))
  }
}
