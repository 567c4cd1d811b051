import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AwsV4Signer } from 'aws4fetch'
import { deadlineFor, type Patience } from './retry.ts'

export interface S3Request {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  url: string
  headers?: Record<string, string>
  body?: Body
  /** More than so many bytes of answer are refused. */
  answerAtMost: number
  signal?: AbortSignal | undefined
}

/** Parts and what is said about them; made once, sent as often as needed. */
export interface Body {
  parts: readonly Uint8Array[]
  bytes: number
  sha256: string
}

export interface S3Answer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

/** No answer, or not all of it. Whether the store has done what was asked is not known, unless `notSent`. */
export class Trouble extends Error {
  override readonly name = 'Trouble'
  readonly kind: 'network' | 'timeout' | 'truncated'
  readonly notSent: boolean
  /** Of an answer that broke off, in bytes. */
  readonly got: number

  constructor(
    kind: Trouble['kind'],
    message: string,
    o: { notSent?: boolean; got?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: o.cause })
    this.kind = kind
    this.notSent = o.notSent ?? false
    this.got = o.got ?? 0
  }
}

// A listing page of 1000 keys is half a megabyte; an error document far less.
export const documentBytes = 8 * 1024 * 1024
// Between two pieces of this size a hash or an upload lets others run and sees that it is cancelled.
const pieceBytes = 1024 * 1024
// As many as a browser has to one host, twice.
const connections = 12

/** Signs and sends single requests; whether to try again is decided by others. */
export class S3Sender {
  readonly #agents = {
    'http:': new http.Agent({ keepAlive: true, maxSockets: connections }),
    'https:': new https.Agent({ keepAlive: true, maxSockets: connections }),
  }
  readonly #keys: { accessKeyId: string; secretAccessKey: string; region: string }
  readonly #patience: Patience
  /** Keys derived for a day and region. */
  readonly #derived = new Map<string, ArrayBuffer>()

  constructor(o: { accessKeyId: string; secretAccessKey: string; region: string; patience: Patience }) {
    this.#keys = { accessKeyId: o.accessKeyId, secretAccessKey: o.secretAccessKey, region: o.region }
    this.#patience = o.patience
  }

  /** @throws Trouble, or the reason of the signal */
  async send(request: S3Request): Promise<S3Answer> {
    request.signal?.throwIfAborted()
    const { url, headers } = await this.#sign(request)
    const bytes = (request.body?.bytes ?? 0) + (request.method === 'GET' ? request.answerAtMost : 0)
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), deadlineFor(this.#patience, bytes))
    const signal = request.signal ? AbortSignal.any([request.signal, deadline.signal]) : deadline.signal
    try {
      return await this.#exchange(request, url, headers, signal)
    } catch (error) {
      request.signal?.throwIfAborted()
      if (deadline.signal.aborted)
        throw new Trouble('timeout', 'the request took longer than its size explains', { cause: error })
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy()
  }

  async #sign(request: S3Request): Promise<{ url: URL; headers: Record<string, string> }> {
    const signer = new AwsV4Signer({
      ...this.#keys,
      service: 's3',
      cache: this.#derived,
      method: request.method,
      url: request.url,
      headers: {
        ...request.headers,
        'x-amz-content-sha256': request.body?.sha256 ?? emptySha256,
      },
    })
    const { url, headers } = await signer.sign()
    const length = request.body && { 'content-length': String(request.body.bytes) }
    return { url, headers: { ...Object.fromEntries(headers), ...length } }
  }

  async #exchange(
    request: S3Request,
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<S3Answer> {
    const secure = url.protocol === 'https:'
    const outgoing = (secure ? https : http).request(url, {
      method: request.method,
      headers,
      agent: this.#agents[secure ? 'https:' : 'http:'],
      signal,
      // Counts from before the connection is there.
      timeout: this.#patience.stallMs,
    })
    let connected = false
    outgoing.once('socket', socket => {
      if (!socket.connecting) connected = true
      else socket.once(secure ? 'secureConnect' : 'connect', () => (connected = true))
    })
    let stalled: Trouble | undefined
    outgoing.once('timeout', () => {
      stalled = new Trouble('timeout', `no byte came or went for ${this.#patience.stallMs} ms`)
      outgoing.destroy(stalled)
    })
    // What goes wrong once the answer has begun is told by the answer.
    outgoing.on('error', () => {})
    // Listening before the body goes out: a store may refuse without reading all of it.
    const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>
    answered.catch(() => {})
    try {
      await Promise.race([sendBody(outgoing, request.body, signal), answered])
      const [incoming] = await answered
      return await readAnswer(incoming, request)
    } catch (error) {
      if (stalled || error instanceof Trouble) throw stalled ?? error
      throw new Trouble('network', messageOf(error), { cause: error, notSent: !connected })
    } finally {
      // After an early answer the rest of the body is not worth sending.
      if (!outgoing.writableFinished) outgoing.destroy()
    }
  }
}

async function sendBody(
  outgoing: http.ClientRequest,
  body: Body | undefined,
  signal: AbortSignal,
): Promise<void> {
  for (const piece of piecesOf(body?.parts ?? [])) {
    if (outgoing.destroyed) return
    if (!outgoing.write(piece)) await once(outgoing, 'drain', { signal })
  }
  outgoing.end()
}

async function readAnswer(incoming: IncomingMessage, request: S3Request): Promise<S3Answer> {
  const announced = request.method === 'HEAD' ? 0 : Number(incoming.headers['content-length'] ?? Number.NaN)
  const sink = announced <= request.answerAtMost ? oneBuffer(announced) : chunks()
  let bytes = 0
  try {
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength
      if (bytes > request.answerAtMost) throw new Trouble('truncated', 'it sent more than was asked for')
      sink.add(chunk)
    }
  } catch (error) {
    if (error instanceof Trouble) throw error
    throw new Trouble('truncated', `the answer broke off after ${bytes} bytes`, { got: bytes, cause: error })
  }
  if (!incoming.complete || (!Number.isNaN(announced) && announced !== bytes))
    throw new Trouble('truncated', `the answer ended after ${bytes} of ${announced} bytes`, { got: bytes })
  return { status: incoming.statusCode as number, headers: incoming.headers, body: sink.whole() }
}

interface Sink {
  add(chunk: Buffer): void
  whole(): Buffer
}

/** Of announced size, so that a large object is in memory once. */
function oneBuffer(bytes: number): Sink {
  const buffer = Buffer.allocUnsafeSlow(bytes)
  let at = 0
  return {
    add: chunk => {
      at += chunk.copy(buffer, at)
    },
    whole: () => buffer,
  }
}

function chunks(): Sink {
  const all: Buffer[] = []
  return { add: chunk => void all.push(chunk), whole: () => Buffer.concat(all) }
}

/** Hashes in pieces, so that 64 MiB do not hold up everything else for 40 ms. */
export async function bodyOf(parts: readonly Uint8Array[]): Promise<Body> {
  const hash = createHash('sha256')
  let bytes = 0
  for (const piece of piecesOf(parts)) {
    hash.update(piece)
    bytes += piece.byteLength
    if (bytes % (8 * pieceBytes) < piece.byteLength) await nextTurn()
  }
  return { parts, bytes, sha256: hash.digest('hex') }
}

const emptySha256 = createHash('sha256').digest('hex')

function* piecesOf(parts: readonly Uint8Array[]): Iterable<Uint8Array> {
  for (const part of parts)
    for (let at = 0; at < part.byteLength; at += pieceBytes) yield part.subarray(at, at + pieceBytes)
}

function messageOf(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  // Of several addresses tried, Node tells in an AggregateError without a message.
  return message || code || String(error)
}
