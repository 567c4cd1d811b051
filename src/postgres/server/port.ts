import { createServer } from 'node:net'

/** The first free one of the wanted ports, else one the kernel chooses; free on every address. */
export async function choosePort(wanted: readonly number[], addresses: readonly string[]): Promise<number> {
  for (const port of new Set(wanted)) {
    if (await isFree(port, addresses)) return port
  }
  const [address = '127.0.0.1', ...others] = addresses
  for (let attempt = 0; attempt < 20; attempt++) {
    const port = await tryListen(0, address)
    if (port !== undefined && (await isFree(port, others))) return port
  }
  throw new Error(`no free port on ${addresses.join(', ')}`)
}

export async function isFree(port: number, addresses: readonly string[]): Promise<boolean> {
  for (const address of addresses) {
    if ((await tryListen(port, address)) === undefined) return false
  }
  return true
}

/** The port it could listen on, released again; undefined when taken or not allowed. */
function tryListen(port: number, host: string): Promise<number | undefined> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(undefined))
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address()
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : undefined))
    })
  })
}
