import pg from 'pg'
import type { Log } from '#lib/log.ts'
import { isConnectionTrouble } from './database.ts'
import { databaseError } from './errors.ts'
import { isRecovering } from './sql-states.ts'
import { type DatabaseTarget, exactTypes } from './target.ts'

export interface ChannelOptions {
  target: DatabaseTarget
  applicationName: string
  log: Log
  /** For the login, and again for what is asked right after it. */
  connectTimeoutMs?: number
  /** The server ends a statement after this, if it is not already committing. */
  statementTimeoutMs?: number
  /** Silence after which the connection is given up and the outcome counts as unknown. */
  answerTimeoutMs?: number
  /** Callers that may wait for their turn; one more is told DATABASE_UNAVAILABLE. */
  mostWaiting?: number
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
  #waiting = 0
  /** Ends when the callers before the next one have had their turn. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: ChannelOptions) {
    this.#o = {
      connectTimeoutMs: 3000,
      statementTimeoutMs: 10_000,
      answerTimeoutMs: 20_000,
      mostWaiting: 1000,
      ...options,
    }
  }

  /**
   * Callers take turns. @throws as told above, DATABASE_UNAVAILABLE when nothing was sent, DATABASE_RECOVERING when the
   * database moves no chips yet.
   */
  query(query: pg.QueryConfig): Promise<pg.QueryResult> {
    return this.#inTurn(() => this.#query(query))
  }

  /** Opens the connection ahead of need. */
  async connect(): Promise<void> {
    await this.#inTurn(() => this.#connected())
  }

  async close(): Promise<void> {
    this.#closed = true
    const client = this.#client
    this.#client = undefined
    await client?.end().catch(() => undefined)
  }

  // A statement that shared the connection with another could neither have its own deadline nor know whose wait for
  // the standby was cancelled.
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting > this.#o.mostWaiting)
      return Promise.reject(databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }))
    this.#waiting++
    const result = this.#turn.then(work).finally(() => this.#waiting--)
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #query(query: pg.QueryConfig): Promise<pg.QueryResult> {
    const client = await this.#connected()
    this.#cancelledWait = false
    let result: pg.QueryResult
    try {
      result = await withDeadline(client.query(query), this.#o.answerTimeoutMs)
    } catch (error) {
      if (isRecovering(error))
        throw databaseError('DATABASE_RECOVERING', { retryAfterSeconds: 2 }, { cause: error })
      if (isRolledBack(error)) throw error
      this.#lose()
      throw databaseError('DATABASE_OUTCOME_UNKNOWN', {}, { cause: error })
    }
    if (this.#cancelledWait) {
      this.#lose()
      const cause = new Error('the wait for the standby was cancelled')
      throw databaseError('DATABASE_OUTCOME_UNKNOWN', {}, { cause })
    }
    return result
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client) return this.#client
    if (this.#closed) throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 })
    const client = this.#newClient()
    let backend: Backend
    try {
      await client.connect()
      backend = await withDeadline(this.#prepare(client), this.#o.connectTimeoutMs)
      if (this.#closed) throw new Error('the channel was closed meanwhile')
    } catch (cause) {
      destroy(client)
      throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause })
    }
    this.#backend = backend
    this.#lost = undefined
    this.#client = client
    return client
  }

  async #prepare(client: pg.Client): Promise<Backend> {
    if (this.#lost) await this.#endBackend(client, this.#lost)
    const { rows } = await client.query(
      'SELECT pid, backend_start::text AS started_at FROM pg_stat_activity WHERE pid = pg_backend_pid()',
    )
    return { pid: rows[0].pid, startedAt: rows[0].started_at }
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
      // The commit is visible here but may not be on the standby. The routine's name is in no language.
      const { code, message = '', routine } = notice
      if (routine === 'SyncRepWaitForLSN' || (code === '01000' && /synchronous replication/.test(message)))
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
    if (client) destroy(client)
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

/** The server's own word that the statement failed. Everything else, an ended connection above all, leaves it open. */
function isRolledBack(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity === 'ERROR' && !isConnectionTrouble(error)
}

// end() would wait for a server that is stuck.
function destroy(client: pg.Client): void {
  // biome-ignore lint/suspicious/noExplicitAny: pg keeps its socket private
  ;(client as any).connection?.stream?.destroy()
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
