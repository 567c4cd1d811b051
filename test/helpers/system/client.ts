import { Agent, type IncomingHttpHeaders, request } from 'node:http'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

export interface Asked {
  method: string
  path: string
  headers?: Record<string, string | string[]>
  body?: string | Buffer
}

/** Connections that stay open between calls, as a browser's or a proxy's do. */
export class Client {
  readonly #url: () => string
  readonly #timeoutMs: number
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 256 })

  constructor(options: { url: () => string; timeoutMs?: number }) {
    this.#url = options.url
    this.#timeoutMs = options.timeoutMs ?? 20_000
  }

  /** Rejects when no whole answer comes. */
  send(asked: Asked): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const url = new URL(this.#url())
    const outgoing = request({
      host: url.hostname,
      port: url.port,
      agent: this.#agent,
      method: asked.method,
      path: asked.path,
      headers: asked.headers,
    })
    const timer = setTimeout(
      () => outgoing.destroy(new Error(`no answer within ${this.#timeoutMs} ms`)),
      this.#timeoutMs,
    )
    outgoing.on('response', incoming => {
      const chunks: Buffer[] = []
      incoming.on('data', chunk => chunks.push(chunk))
      incoming.on('error', reject)
      incoming.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8')
        if (incoming.complete) resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body })
        else reject(new Error('the answer was cut off'))
      })
    })
    outgoing.on('error', reject)
    outgoing.end(asked.body)
    return promise.finally(() => clearTimeout(timer))
  }

  /** POST or GET with JSON; rejects without an answer. */
  async json(path: string, o: { body?: unknown; token?: string; key?: string } = {}): Promise<Answer> {
    const body = o.body === undefined ? undefined : JSON.stringify(o.body)
    return this.send({
      method: body === undefined ? 'GET' : 'POST',
      path,
      headers: {
        ...(o.token === undefined ? {} : { authorization: `Bearer ${o.token}` }),
        ...(o.key === undefined ? {} : { 'idempotency-key': o.key }),
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
      },
      ...(body === undefined ? {} : { body }),
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}
