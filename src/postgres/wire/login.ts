import { Socket } from 'node:net'
import pg from 'pg'
import { Failure } from '#lib/errors.ts'
import { wireError } from './errors.ts'
import type { OpenOptions } from './model.ts'
import { messageType } from './reader.ts'

/** A logged-in connection from which pg has been taken away. */
export interface Link {
  readonly socket: Socket
  readonly serverVersion: number
  /** Hands over every byte after the login; once. `read` answers false when it wants no more before socket.resume(). */
  start(read: (chunk: Buffer) => boolean): void
}

// One read takes what the kernel holds: twelve messages of a base backup, or a burst of WAL for one fdatasync.
const readBytes = 512 * 1024
const oldestServer = 150_000
// Too many connections, or the server is starting or stopping: later it may do.
const passingStates = new Set(['57P03', '57P01', '57P02', '53300'])

/**
 * Lets pg do the login (TLS, SCRAM, peer) and takes the stream over right behind the first ReadyForQuery.
 * @throws WIRE_UNREACHABLE, WIRE_LOGIN_REFUSED, WIRE_VERSION_UNFIT, WIRE_ABORTED
 */
export async function logIn(config: pg.ClientConfig, options: OpenOptions): Promise<Link> {
  const { applicationName = 'moonyetis', connectWithinMs = 10_000, signal } = options
  const reads = new Reads()
  const client = new pg.Client({
    ...config,
    replication: 'true',
    application_name: applicationName,
    connectionTimeoutMillis: connectWithinMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    stream: ({ ssl }: { ssl: unknown }) => reads.newSocket(!ssl),
  } as unknown as pg.ClientConfig)
  // Without a listener, an end that pg sees after we have taken over would end the process.
  client.on('error', () => {})
  const { connection } = client as unknown as { connection: PgConnection }
  let version = ''
  connection.on('parameterStatus', ({ parameterName, parameterValue }) => {
    if (parameterName === 'server_version') version = parameterValue
  })
  const abort = () => connection.stream.destroy(new Error('called off'))
  signal?.addEventListener('abort', abort, { once: true })
  try {
    if (signal?.aborted) throw new Error('called off')
    await connect(client, connection, reads)
    return linkOf({ client, socket: connection.stream, reads, version })
  } catch (error) {
    connection.stream.destroy()
    if (signal?.aborted) throw wireError('WIRE_ABORTED', { command: 'the login' }, { cause: signal.reason })
    throw error instanceof Failure ? error : loginFailure(client, error)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** The part of pg's Connection that its types leave out. */
interface PgConnection {
  stream: Socket
  on(event: 'parameterStatus', listener: (m: { parameterName: string; parameterValue: string }) => void): void
  once(event: 'sslconnect', listener: () => void): void
}

async function connect(client: pg.Client, connection: PgConnection, reads: Reads): Promise<void> {
  const connected = client.connect()
  // pg listens first, so a chunk has gone through its parser when we look whether the login is over.
  const watch = () => reads.watch(connection.stream)
  if (reads.plain) watch()
  else connection.once('sslconnect', watch)
  await connected
}

function linkOf(o: { client: pg.Client; socket: Socket; reads: Reads; version: string }): Link {
  const serverVersion = versionNumber(o.version)
  if (serverVersion < oldestServer)
    throw wireError('WIRE_VERSION_UNFIT', { server: nameOf(o.client), version: o.version })
  return { socket: o.socket, serverVersion, start: read => o.reads.start(o.socket, read) }
}

/** `15.18 (Debian 15.18-0)` is 150018; `19beta1` is 190000. */
function versionNumber(text: string): number {
  const [, major = '0', minor = '0'] = /^(\d+)(?:\.(\d+))?/.exec(text) ?? []
  return Number(major) * 10_000 + Number(minor)
}

function loginFailure(client: pg.Client, error: unknown): Failure {
  const { message: reason, code = '' } = error as Error & { code?: string }
  const refused = error instanceof pg.DatabaseError ? !passingStates.has(code) : /SASL|SCRAM/.test(reason)
  const facts = { server: nameOf(client), user: client.user, reason: reason || code, sqlState: code }
  return wireError(refused ? 'WIRE_LOGIN_REFUSED' : 'WIRE_UNREACHABLE', facts, { cause: error })
}

function nameOf({ host, port }: pg.Client): string {
  return `${host}:${port}`
}

/**
 * Where the bytes of one socket go: to pg until its login is over, then to us. A plain socket reads into one large
 * buffer that is used again and again; below TLS that is not possible and the bytes come by 'data'.
 */
class Reads {
  plain = false
  #deliver: (chunk: Buffer) => boolean = () => false
  #rest: Buffer = Buffer.alloc(0)

  newSocket(plain: boolean): Socket {
    this.plain = plain
    if (!plain) return new Socket()
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    const callback = (bytes: number) => this.#deliver(buffer.subarray(0, bytes))
    const socket = new Socket({ onread: { buffer, callback } })
    this.#deliver = chunk => {
      // pg keeps what it is given, and the buffer is used again.
      socket.emit('data', Buffer.from(chunk))
      return !socket.isPaused()
    }
    return socket
  }

  /** Stops the socket right behind the login and keeps what came after it. */
  watch(socket: Socket): void {
    const finder = new ReadyFinder()
    socket.on('data', chunk => {
      const end = finder.find(chunk as Buffer)
      if (end === undefined) return
      socket.removeAllListeners('data')
      socket.pause()
      this.#rest = (chunk as Buffer).subarray(end)
    })
  }

  start(socket: Socket, read: (chunk: Buffer) => boolean): void {
    this.#deliver = read
    if (!this.plain)
      socket.on('data', chunk => {
        if (!read(chunk as Buffer)) socket.pause()
      })
    if (this.#rest.length === 0 || read(this.#rest)) socket.resume()
    this.#rest = Buffer.alloc(0)
  }
}

/** Finds where the first ReadyForQuery ends, without looking into any message. */
class ReadyFinder {
  readonly #header = Buffer.alloc(5)
  #filled = 0
  #skip = 0

  find(chunk: Buffer): number | undefined {
    for (let at = 0; at < chunk.length; ) {
      if (this.#filled < 5) {
        this.#header[this.#filled++] = chunk[at++] as number
        if (this.#filled < 5) continue
        this.#skip = Math.max(0, this.#header.readUInt32BE(1) - 4)
      }
      const bytes = Math.min(this.#skip, chunk.length - at)
      this.#skip -= bytes
      at += bytes
      if (this.#skip > 0) return undefined
      if (this.#header[0] === messageType.readyForQuery) return at
      this.#filled = 0
    }
    return undefined
  }
}
