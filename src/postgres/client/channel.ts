import pg from 'pg'
import type { Log } from '#lib/log.ts'
import { isConnectionTrouble } from './database.ts'
import { databaseError } from './errors.ts'
import { type DatabaseTarget, exactTypes } from './target.ts'

export interface ChannelOptions {
  target: DatabaseTarget
  applicationName: string
  log: Log
  connectTimeoutMs?: number
  /** The server ends a statement after this, if it is not already committing. */
  statementTimeoutMs?: number
  /** Silence after which the connection is given up and the outcome counts as unknown. */
  answerTimeoutMs?: number
}

interface Backend {
  pid: number
  startedAt: string
}

/**
 * One connection for statements whose outcome matters. A statement ends in one of three ways:
 * rows (committed, and replicated as the server was told to), pg's DatabaseError (rolled back for certain), or
 * DATABASE_OUTCOME_UNKNOWN. After an unknown outcome no further statement runs until the old backend is gone, so what a
 * later statement reads is final. It never sends a cancel request: one that arrives in the commit wait would make a
 * commit visible that is not replicated.
 */
export class Channel {
  readonly #o: Required<ChannelOptions>
  #client: pg.Client | undefined
  #backend: Backend | undefined
  /** A backend that may still be working on a statement of ours. */
  #lost: Backend | undefined
  #cancelledWait = false
  #closed = false

  constructor(options: ChannelOptions) {
    this.#o = { connectTimeoutMs: 3000, statementTimeoutMs: 10_000, answerTimeoutMs: 20_000, ...options }
  }

  /** At most one statement at a time; the caller queues. @throws as told above, or DATABASE_UNAVAILABLE when nothing was sent. */
  async query(query: pg.QueryConfig): Promise<pg.QueryResult> {
    const client = await this.#connected()
    this.#cancelledWait = false
    let result: pg.QueryResult
    try {
      result = await withDeadline(client.query(query), this.#o.answerTimeoutMs)
    } catch (error) {
      if (!isConnectionTrouble(error)) throw error
      this.#lose()
      throw databaseError('DATABASE_OUTCOME_UNKNOWN', {}, { cause: error })
    }
    if (this.#cancelledWait) {
      this.#lose()
      throw databaseError(
        'DATABASE_OUTCOME_UNKNOWN',
        {},
        { cause: new Error('the wait for the standby was cancelled') },
      )
    }
    return result
  }

  /** Opens the connection ahead of need. */
  async connect(): Promise<void> {
    await this.#connected()
  }

  async close(): Promise<void> {
    this.#closed = true
    const client = this.#client
    this.#client = undefined
    await client?.end().catch(() => undefined)
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client) return this.#client
    if (this.#closed) throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 })
    const client = this.#newClient()
    try {
      await client.connect()
      if (this.#lost) await this.#endBackend(client, this.#lost)
      const { rows } = await client.query(
        'SELECT pid, backend_start::text AS started_at FROM pg_stat_activity WHERE pid = pg_backend_pid()',
      )
      this.#backend = { pid: rows[0].pid, startedAt: rows[0].started_at }
    } catch (cause) {
      client.removeAllListeners('end')
      client.end().catch(() => undefined)
      throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause })
    }
    this.#lost = undefined
    this.#client = client
    return client
  }

  #newClient(): pg.Client {
    const client = new pg.Client({
      ...this.#o.target,
      application_name: this.#o.applicationName,
      connectionTimeoutMillis: this.#o.connectTimeoutMs,
      statement_timeout: this.#o.statementTimeoutMs,
      keepAlive: true,
      types: exactTypes,
    })
    client.on('notice', notice => {
      // 01000 with this text (lc_messages is C): the commit is visible here but may not be on the standby.
      if (notice.code === '01000' && /synchronous replication/.test(notice.message ?? ''))
        this.#cancelledWait = true
    })
    client.on('error', error => {
      this.#o.log.warn({ err: error }, 'the settlement connection was lost')
      if (this.#client === client) this.#lose()
    })
    client.on('end', () => {
      if (this.#client === client) this.#lose()
    })
    return client
  }

  #lose(): void {
    const client = this.#client
    this.#client = undefined
    this.#lost = this.#backend ?? this.#lost
    this.#backend = undefined
    // biome-ignore lint/suspicious/noExplicitAny: pg keeps its socket private; end() would wait for a stuck server
    ;(client as any)?.connection?.stream?.destroy()
  }

  // pg_terminate_backend waits up to its timeout; a backend of a server that was restarted is simply not there.
  async #endBackend(client: pg.Client, backend: Backend): Promise<void> {
    const { rows } = await client.query(
      `SELECT count(*) FILTER (WHERE NOT pg_terminate_backend(pid, 2000))::int AS still_there
       FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2::timestamptz`,
      [backend.pid, backend.startedAt],
    )
    if (rows[0].still_there > 0) throw new Error(`the old backend ${backend.pid} has not ended yet`)
  }
}

async function withDeadline<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('timeout: no answer from the server')), ms)
  })
  // The loser of the race may still reject, when the socket is destroyed.
  work.catch(() => undefined)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
