import { createConnection } from 'node:net'

/** A request byte by byte: what well-meaning clients refuse to send goes out as it stands. */
export interface RawRequest {
  method: string
  /** Request target, already encoded or deliberately not. */
  target: string
  /** Latin-1 text; the same name may come twice. */
  headers: readonly (readonly [name: string, value: string])[]
  body?: Buffer
}

export interface RawAnswer {
  status: number
  /** Names in lower case. */
  headers: Map<string, string>
  body: string
}

/**
 * Sends it on a connection of its own. Host, Content-Length and Connection are added where they are not given. Rejects when
 * no whole answer comes.
 */
export function sendRaw(port: number, request: RawRequest, withinMs = 10_000): Promise<RawAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<RawAnswer>()
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
  const chunks: Buffer[] = []
  const finish = (error?: Error) => {
    clearTimeout(timer)
    socket.destroy()
    const answer = parse(Buffer.concat(chunks), request.method === 'HEAD')
    if (answer) resolve(answer)
    else reject(error ?? new Error(`the connection ended without an answer after ${chunks.length} chunks`))
  }
  const timer = setTimeout(() => finish(new Error(`no answer within ${withinMs} ms`)), withinMs)
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    if (parse(Buffer.concat(chunks), request.method === 'HEAD')) finish()
  })
  // The server may answer and close before it has read all; what it said counts.
  socket.on('error', error => finish(error))
  socket.on('close', () => finish())
  socket.write(encode(request))
  return promise
}

function encode({ method, target, headers, body }: RawRequest): Buffer {
  const given = new Set(headers.map(([name]) => name.toLowerCase()))
  const added: [string, string][] = [
    ['Host', '127.0.0.1'],
    ['Connection', 'close'],
  ]
  if (body) added.push(['Content-Length', String(body.length)])
  const all = [...added.filter(([name]) => !given.has(name.toLowerCase())), ...headers]
  const head = [`${method} ${target} HTTP/1.1`, ...all.map(([name, value]) => `${name}: ${value}`), '', '']
  return Buffer.concat([Buffer.from(head.join('\r\n'), 'latin1'), body ?? Buffer.alloc(0)])
}

/** Undefined until the answer is whole. */
function parse(bytes: Buffer, isHead: boolean): RawAnswer | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [first = '', ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n')
  const headers = new Map(
    lines.map(line => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 1).trim(),
    ]),
  )
  const status = Number(first.split(' ')[1])
  const body = bytes.subarray(end + 4)
  // 100 Continue comes before the answer.
  if (status === 100) return parse(body, isHead)
  const length = Number(headers.get('content-length') ?? 0)
  if (headers.get('transfer-encoding') === 'chunked' && !isHead) {
    if (!body.toString('latin1').endsWith('0\r\n\r\n')) return undefined
    return { status, headers, body: unchunk(body).toString('utf8') }
  }
  if (isHead || status === 204) return { status, headers, body: '' }
  return body.length < length
    ? undefined
    : { status, headers, body: body.subarray(0, length).toString('utf8') }
}

function unchunk(bytes: Buffer): Buffer {
  const size = Number.parseInt(bytes.subarray(0, bytes.indexOf('\r\n')).toString('latin1'), 16)
  const start = bytes.indexOf('\r\n') + 2
  return size === 0
    ? Buffer.alloc(0)
    : Buffer.concat([bytes.subarray(start, start + size), unchunk(bytes.subarray(start + size + 2))])
}
