import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { ClientConfig } from 'pg'
import type { Lsn } from '#lib/lsn.ts'
import { postgresEpochMicroseconds } from './messages.ts'

/** Messages as a PostgreSQL server writes them. */
export const message = {
  make: (type: string, body: Uint8Array = Buffer.alloc(0)): Buffer => {
    const head = Buffer.alloc(5)
    head.write(type, 0, 'latin1')
    head.writeUInt32BE(body.length + 4, 1)
    return Buffer.concat([head, body])
  },
  ready: () => message.make('Z', Buffer.from('I')),
  row: (...columns: (string | Buffer | null)[]): Buffer => message.make('D', rowBody(columns)),
  description: () => message.make('T', Buffer.from([0, 0])),
  table: (...rows: (string | Buffer | null)[][]): Buffer =>
    Buffer.concat([message.description(), ...rows.map(row => message.row(...row)), message.complete()]),
  complete: (tag = 'SELECT') => message.make('C', Buffer.from(`${tag}\0`)),
  words: (type: 'E' | 'N', severity: string, code: string, text: string): Buffer =>
    message.make(type, Buffer.from(`S${severity}\0V${severity}\0C${code}\0M${text}\0\0`)),
  error: (code: string, text: string) => message.words('E', 'ERROR', code, text),
  notice: (text: string) => message.words('N', 'WARNING', '01000', text),
  parameter: (name: string, value: string) => message.make('S', Buffer.from(`${name}\0${value}\0`)),
  copyOut: () => message.make('H', Buffer.from([0, 0, 0])),
  copyBoth: () => message.make('W', Buffer.from([0, 0, 0])),
  copyDone: () => message.make('c'),
  copyData: (body: Uint8Array) => message.make('d', body),
  archive: (name: string, path = '') => message.copyData(Buffer.from(`n${name}\0${path}\0`)),
  data: (bytes: Uint8Array) => message.copyData(Buffer.concat([Buffer.from('d'), bytes])),
  manifest: () => message.copyData(Buffer.from('m')),
  progress: (bytes: bigint) => message.copyData(Buffer.concat([Buffer.from('p'), int64(bytes)])),
  wal: (start: Lsn, serverEnd: Lsn, bytes: Uint8Array) =>
    message.copyData(Buffer.concat([Buffer.from('w'), int64(start), int64(serverEnd), int64(0n), bytes])),
  keepalive: (serverEnd: Lsn, replyNow: boolean) =>
    message.copyData(
      Buffer.concat([Buffer.from('k'), int64(serverEnd), int64(0n), Buffer.from([Number(replyNow)])]),
    ),
} as const

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

function rowBody(columns: (string | Buffer | null)[]): Buffer {
  const count = Buffer.alloc(2)
  count.writeInt16BE(columns.length)
  const parts = columns.flatMap(column => {
    const bytes = typeof column === 'string' ? Buffer.from(column) : column
    const length = Buffer.alloc(4)
    length.writeInt32BE(bytes === null ? -1 : bytes.length)
    return bytes === null ? [length] : [length, bytes]
  })
  return Buffer.concat([count, ...parts])
}

/** A position that a client confirmed. */
export interface SeenStatus {
  write: Lsn
  flush: Lsn
  apply: Lsn
  atMs: number
  replyNow: boolean
}

/** Reads a standby status update without its CopyData header. */
export function readStatus(body: Buffer): SeenStatus {
  return {
    write: body.readBigUInt64BE(1),
    flush: body.readBigUInt64BE(9),
    apply: body.readBigUInt64BE(17),
    atMs: Number((body.readBigInt64BE(25) + postgresEpochMicroseconds) / 1000n),
    replyNow: body[33] === 1,
  }
}

/** What a client sent: `Q` with the command's text, `d`, `c`, `X`. */
export interface Seen {
  type: string
  body: Buffer
}

export interface FakeServer {
  config: ClientConfig
  close(): Promise<void>
}

/**
 * A server that lets everybody in and then plays `script` with each connection. What follows ReadyForQuery of the login
 * in `greeting` arrives together with it.
 */
export async function fakeServer(
  script: (client: FakeClient) => Promise<void>,
  greeting: Buffer = Buffer.alloc(0),
): Promise<FakeServer> {
  const sockets = new Set<Socket>()
  const server: Server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    // A client that was destroyed makes the script fail; the test sees the client's side.
    script(new FakeClient(socket, greeting)).catch(() => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    config: {
      host: '127.0.0.1',
      port: (server.address() as AddressInfo).port,
      user: 'someone',
      database: 'replication',
    },
    close: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/** One client as the fake server sees it. */
export class FakeClient {
  readonly socket: Socket
  readonly seen: Seen[] = []
  #bytes: Buffer = Buffer.alloc(0)
  #isIn = false
  #arrived = Promise.withResolvers<void>()

  constructor(socket: Socket, greeting: Buffer) {
    this.socket = socket
    socket.on('data', bytes => this.#take(bytes as Buffer, greeting))
    socket.on('close', () => this.#arrived.reject(new Error('the client is gone')))
    this.#arrived.promise.catch(() => {})
  }

  /** The next message of that type; earlier ones of other types are passed over. */
  async next(type: string): Promise<Buffer> {
    for (;;) {
      for (let one = this.seen.shift(); one; one = this.seen.shift()) if (one.type === type) return one.body
      await this.#arrived.promise
    }
  }

  /** The text of the next command. */
  async command(): Promise<string> {
    return (await this.next('Q')).toString('utf8').replace(/\0$/, '')
  }

  send(...messages: Buffer[]): void {
    this.socket.write(Buffer.concat(messages))
  }

  #take(bytes: Buffer, greeting: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes])
    if (!this.#isIn && !this.#letIn(greeting)) return
    while (this.#bytes.length >= 5 && this.#bytes.length > this.#bytes.readUInt32BE(1)) {
      const end = this.#bytes.readUInt32BE(1) + 1
      this.seen.push({
        type: String.fromCharCode(this.#bytes[0] as number),
        body: this.#bytes.subarray(5, end),
      })
      this.#bytes = this.#bytes.subarray(end)
    }
    const arrived = this.#arrived
    this.#arrived = Promise.withResolvers()
    this.#arrived.promise.catch(() => {})
    arrived.resolve()
  }

  /** The startup message has no type. */
  #letIn(greeting: Buffer): boolean {
    if (this.#bytes.length < 4 || this.#bytes.length < this.#bytes.readUInt32BE(0)) return false
    this.#bytes = this.#bytes.subarray(this.#bytes.readUInt32BE(0))
    this.#isIn = true
    const version = message.parameter('server_version', '18.4')
    this.send(message.make('R', Buffer.alloc(4)), version, message.ready(), greeting)
    return true
  }
}

/** Cuts bytes at the given places. */
export function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...new Set(places.map(place => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...sorted, bytes.length].map((end, index) => bytes.subarray(sorted[index - 1] ?? 0, end))
}
