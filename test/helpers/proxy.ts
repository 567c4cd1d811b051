import { once } from 'node:events'
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { DatabaseTarget } from '#postgres/client/target.ts'

/**
 * What befalls the next statement whose bytes match:
 *   lost       the connection ends before the server sees it
 *   cut        the server sees it, the connection ends at once
 *   unanswered the server answers (it has committed), the connection ends instead of the answer arriving
 *   silence    the server sees it and nothing ever comes back
 */
export type Mishap = 'lost' | 'cut' | 'unanswered' | 'silence'

/** Stands between a client and the server on loopback and lets connections die where a test wants it. */
export interface TestProxy {
  target: DatabaseTarget
  /** Connections accepted so far. */
  readonly accepted: number
  befall(mishap: Mishap, statement: RegExp): void
  /** Every statement from now on, by chance; undefined ends it. */
  misfortune: ((statement: string) => Mishap | undefined) | undefined
  /** New connections are accepted and then nothing is answered, as by a server that is stopped. */
  frozen: boolean
  /** Called with what the client sends. */
  seen: ((statement: string) => void) | undefined
  close(): Promise<void>
}

export async function openProxy(
  t: { after(work: () => Promise<void>): void },
  target: DatabaseTarget,
): Promise<TestProxy> {
  const links = new Set<Socket>()
  const planned: Array<{ mishap: Mishap; statement: RegExp }> = []
  let accepted = 0
  const chosen = (statement: string): Mishap | undefined => {
    const index = planned.findIndex(plan => plan.statement.test(statement))
    return index >= 0 ? planned.splice(index, 1)[0]?.mishap : proxy.misfortune?.(statement)
  }
  const server = createServer(client => {
    accepted++
    links.add(client)
    client.on('error', () => {})
    client.on('close', () => links.delete(client))
    if (!proxy.frozen) connect(client, upstream(target), chosen, statement => proxy.seen?.(statement))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: TestProxy = {
    target: { ...target, host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    get accepted() {
      return accepted
    },
    befall: (mishap, statement) => void planned.push({ mishap, statement }),
    misfortune: undefined,
    frozen: false,
    seen: undefined,
    close: async () => {
      for (const link of links) link.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  t.after(() => proxy.close())
  return proxy
}

function upstream({ host, port }: DatabaseTarget): Socket {
  return host.startsWith('/')
    ? createConnection({ path: join(host, `.s.PGSQL.${port}`) })
    : createConnection({ host, port })
}

function connect(
  client: Socket,
  server: Socket,
  chosen: (statement: string) => Mishap | undefined,
  seen: (statement: string) => void,
): void {
  let fate: Mishap | undefined
  const cut = () => {
    client.destroy()
    server.destroy()
  }
  server.on('error', cut)
  client.on('close', () => server.end())
  server.on('close', () => client.end())
  client.on('data', bytes => {
    const statement = bytes.toString('latin1')
    seen(statement)
    fate = chosen(statement) ?? fate
    if (fate === 'lost') return cut()
    server.write(bytes)
    // The bytes must have left before the connection ends.
    if (fate === 'cut') server.end(() => client.destroy())
  })
  server.on('data', bytes => {
    if (fate === 'unanswered') return cut()
    if (fate !== 'silence') client.write(bytes)
  })
}
