import type { FastifyRequest } from 'fastify'
import type { SignedIn } from '#game/routes.ts'
import type { Doors } from '#identity/doors.ts'

/** A session verified a moment ago is answered for at once; only others wait for the database. */
export function signedIn(doors: Doors): SignedIn {
  return { player: request => doors.peekPlayer(request) ?? doors.requirePlayer(request) }
}

const localHosts = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i
const forwarding = /^(forwarded|x-forwarded-.*|x-real-ip|via)$/

/**
 * GET /metrics for role metrics and above, and without a token for somebody on this machine itself: a GET whose socket
 * peer is loopback, that names a local host and went through no proxy; never on mainnet, in production, behind trusted
 * proxies or when listening beyond loopback.
 */
export function mayReadMetrics(
  doors: Doors,
  o: { chain: string; nodeEnv?: string; trustedProxies: readonly string[]; host: string },
): (request: FastifyRequest) => boolean {
  const tokenless =
    o.chain === 'simulated' &&
    o.nodeEnv !== 'production' &&
    o.trustedProxies.length === 0 &&
    ['127.0.0.1', '::1', 'localhost'].includes(o.host)
  return request => {
    if (tokenless && isLocal(request)) return true
    doors.requireOperator(request, 'metrics')
    return true
  }
}

function isLocal(request: FastifyRequest): boolean {
  const peer = request.raw.socket.remoteAddress
  return (
    request.method === 'GET' &&
    (peer === '127.0.0.1' || peer === '::1') &&
    localHosts.test(request.headers.host ?? '') &&
    !Object.keys(request.headers).some(name => forwarding.test(name))
  )
}
