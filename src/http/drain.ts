import type { FastifyInstance } from 'fastify'
import type { Log } from '#lib/log.ts'

/** Shared between the drain and the hooks: once `draining`, /readyz says so and every answer closes its connection. */
export interface DrainState {
  draining: boolean
}

// A connection whose last answer was being written when the drain began turns idle without an event for us.
const reapMs = 50
// For what runs after the sockets are gone (onClose hooks); then the process may go on without them.
const afterDestroyMs = 250

/**
 * Stops accepting, lets requests in flight finish, and destroys what is left at the deadline. Resolves within the
 * deadline (and a moment) whatever clients and plugins do. A second call with an earlier deadline hurries the first.
 */
export function createDrain(
  app: Pick<FastifyInstance, 'close' | 'server'>,
  state: DrainState,
  log: Log,
): (deadlineMs: number) => Promise<void> {
  let closed: Promise<void> | undefined
  return async deadlineMs => {
    state.draining = true
    closed ??= closeApp(app)
    const deadline = Promise.withResolvers<void>()
    const destroy = setTimeout(() => {
      log.warn({ deadlineMs }, 'requests in flight were cut off at the drain deadline')
      app.server.closeAllConnections()
      setTimeout(deadline.resolve, afterDestroyMs)
    }, deadlineMs)
    try {
      await Promise.race([closed, deadline.promise])
    } finally {
      clearTimeout(destroy)
    }
  }
}

async function closeApp(app: Pick<FastifyInstance, 'close' | 'server'>): Promise<void> {
  const reaper = setInterval(() => app.server.closeIdleConnections(), reapMs)
  try {
    await app.close()
  } finally {
    clearInterval(reaper)
  }
}
