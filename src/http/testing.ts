import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { loadConfig } from '#lib/config.ts'
import { createLog, type Log } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { httpSlice } from './config.ts'
import { createHttp, type Http, type HttpConfig, type HttpOptions } from './http.ts'
import type { App } from './types.ts'

export interface TestServer {
  http: Http
  url: string
  port: number
  /** Log lines so far, parsed. */
  logged: Record<string, unknown>[]
}

/** A listening server on a free port; drained when the test ends. */
export async function startServer(
  t: TestContext,
  options: Partial<Omit<HttpOptions, 'config'>> & {
    config?: Partial<HttpConfig>
    routes?: (app: App) => void
  } = {},
): Promise<TestServer> {
  const logged: Record<string, unknown>[] = []
  const { config, routes, ...rest } = options
  const http = await createHttp({
    log: collectingLog(logged),
    metrics: createMetrics(),
    ready: () => ({ ready: true, reasons: [] }),
    version: '1.2.3',
    ...rest,
    config: { ...loadConfig([httpSlice], { env: { PORT: '0' } }).values.http, ...config },
  })
  routes?.(http.app)
  t.after(() => http.drain(0))
  const { port } = await http.listen()
  return { http, url: `http://127.0.0.1:${port}`, port, logged }
}

/** Bytes as a stranger may send them. */
export class RawClient {
  readonly socket: Socket
  received = ''

  constructor(socket: Socket) {
    this.socket = socket
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => {
      this.received += text
    })
    // A reset is one of the ends a test may look for; `ended` settles either way.
    socket.on('error', () => {})
  }

  static async connect(t: TestContext, port: number): Promise<RawClient> {
    const socket = connect(port, '127.0.0.1')
    t.after(() => socket.destroy())
    await once(socket, 'connect')
    return new RawClient(socket)
  }

  send(bytes: string | Uint8Array): this {
    this.socket.write(bytes)
    return this
  }

  /** Resolves once the received text matches. Rejects when the connection ends before. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.received)) {
      if (this.socket.destroyed || this.socket.readableEnded) {
        throw new Error(`the connection ended before ${pattern}: ${this.received}`)
      }
      await new Promise<void>(resolve => {
        for (const event of ['data', 'end', 'close']) this.socket.once(event, () => resolve())
      })
    }
    return this.received
  }

  /** Resolves with all that was received once the server has closed. */
  async untilClosed(): Promise<string> {
    if (!this.socket.destroyed) await new Promise(resolve => this.socket.once('close', resolve))
    return this.received
  }
}

/** Status, headers (lower case) and body of the first answer in the text. */
export function parseAnswer(text: string): { status: number; headers: Record<string, string>; body: string } {
  const end = text.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n')
  const headers = Object.fromEntries(
    lines.map(line => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 1).trim(),
    ]),
  )
  return { status: Number(statusLine.split(' ')[1]), headers, body: text.slice(end + 4) }
}

function collectingLog(lines: Record<string, unknown>[]): Log {
  return createLog({
    role: 'test',
    level: 'info',
    destination: { write: line => lines.push(JSON.parse(line)) },
  })
}
