import { createServer } from 'node:net'
import { httpError } from '#http/errors.ts'

/**
 * Proves that the HTTP address is free before anything is started, and gives the port: the wanted one, or a free one for 0.
 * Throws HTTP_PORT_IN_USE, HTTP_CANNOT_LISTEN.
 */
export function reservePort(wanted: { host: string; port: number }): Promise<number> {
  const { host, port } = wanted
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      const { code } = error
      if (code === 'EADDRINUSE') {
        const suggestion = port < 65_535 ? port + 1 : port - 1
        reject(httpError('HTTP_PORT_IN_USE', { host, port, suggestion }, { cause: error }))
      } else
        reject(
          httpError('HTTP_CANNOT_LISTEN', { host, port, reason: code ?? error.message }, { cause: error }),
        )
    })
    server.listen({ host, port, exclusive: true }, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : port))
    })
  })
}
