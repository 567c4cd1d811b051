import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Log } from '#lib/log.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import type { SessionNotices } from './sessions.ts'

export interface SessionListenerOptions {
  /** The primary itself: LISTEN does not pass a transaction pooler. */
  target: DatabaseTarget
  applicationName: string
  log: Log
}

const connectWithinMs = 3_000
// A connection can die without a word (cable, firewall); a revocation is missed for at most the sum of these.
const heartbeatMs = 5_000
const heartbeatWithinMs = 3_000
const firstBackoffMs = 100
const longestBackoffMs = 5_000
const closeWithinMs = 1_000

/** Listens for ended sessions on a connection of its own, and connects again whenever that is lost. */
export class SessionListener {
  readonly #o: SessionListenerOptions
  readonly #closing = new AbortController()
  #running: Promise<void> | undefined
  #interrupt = (_reason: Error) => {}

  constructor(options: SessionListenerOptions) {
    this.#o = options
  }

  start(notices: SessionNotices): void {
    this.#running ??= this.#run(notices)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#interrupt(new Error('closing'))
    await this.#running
  }

  async #run(notices: SessionNotices): Promise<void> {
    const { signal } = this.#closing
    let backoffMs = firstBackoffMs
    while (!signal.aborted) {
      const wasHearing = await this.#listen(notices)
      if (signal.aborted) return
      backoffMs = wasHearing ? firstBackoffMs : Math.min(backoffMs * 2, longestBackoffMs)
      await delay(backoffMs, undefined, { signal }).catch(() => {})
    }
  }

  /** One connection from its start to its end; resolves with whether it ever heard. */
  async #listen(notices: SessionNotices): Promise<boolean> {
    const { log } = this.#o
    const client = this.#newClient()
    const ended = new Promise<Error>(resolve => {
      client.on('error', resolve)
      client.on('end', () => resolve(new Error('the connection ended')))
      this.#interrupt = resolve
    })
    client.on('notification', notice => notices.ended(notice.payload ?? ''))
    let hearing = false
    try {
      await Promise.race([this.#subscribe(client), ended.then(throwIt)])
      hearing = true
      notices.hearing()
      log.debug('session revocations are pushed')
      await Promise.race([beat(client, this.#closing.signal), ended.then(throwIt)])
    } catch (error) {
      if (hearing) notices.deaf()
      if (hearing && !this.#closing.signal.aborted)
        log.warn({ err: error }, 'session revocations are not pushed; sessions are checked one by one')
    }
    await endWithin(client, closeWithinMs)
    return hearing
  }

  async #subscribe(client: pg.Client): Promise<void> {
    await client.connect()
    await client.query('LISTEN session_closed')
  }

  #newClient(): pg.Client {
    return new pg.Client({
      ...this.#o.target,
      application_name: this.#o.applicationName,
      connectionTimeoutMillis: connectWithinMs,
      query_timeout: heartbeatWithinMs,
      keepAlive: true,
    })
  }
}

/** Rejects when the server no longer answers. */
async function beat(client: pg.Client, signal: AbortSignal): Promise<never> {
  for (;;) {
    await delay(heartbeatMs, undefined, { signal })
    await client.query('SELECT 1')
  }
}

/** A server that does not answer would keep end() waiting for ever. */
async function endWithin(client: pg.Client, ms: number): Promise<void> {
  const giveUp = new AbortController()
  await Promise.race([
    client.end().catch(() => {}),
    delay(ms, undefined, { signal: giveUp.signal, ref: false }).catch(() => {}),
  ])
  giveUp.abort()
}

function throwIt(error: Error): never {
  throw error
}
