import pg from 'pg'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { databaseError } from './errors.ts'
import { isRecovering } from './sql-states.ts'
import { type DatabaseTarget, exactTypes } from './target.ts'

export interface DatabaseOptions {
  target: DatabaseTarget
  /** Seen in pg_stat_activity. */
  applicationName: string
  log: Log
  maxConnections?: number
  connectTimeoutMs?: number
  /** The server ends a statement after this; the client gives the connection up a little later. */
  statementTimeoutMs?: number
}

/** One statement, `text` with $1…, as pasted into psql. */
export type Row = Record<string, unknown>

/**
 * A pool for reads and for writes that are safe to repeat. Connection trouble becomes DATABASE_UNAVAILABLE (503,
 * retry), a database that was just restored DATABASE_RECOVERING; errors of the statement itself keep their SQLSTATE and rise as pg's DatabaseError.
 */
export class Database {
  readonly #pool: pg.Pool

  constructor(o: DatabaseOptions) {
    const statementTimeoutMs = o.statementTimeoutMs ?? 5000
    this.#pool = new pg.Pool({
      ...o.target,
      application_name: o.applicationName,
      max: o.maxConnections ?? 10,
      // The default of 10 s closes warm connections between bursts; the next burst then measures logins.
      idleTimeoutMillis: 0,
      connectionTimeoutMillis: o.connectTimeoutMs ?? 3000,
      statement_timeout: statementTimeoutMs,
      query_timeout: statementTimeoutMs + 2000,
      keepAlive: true,
      types: exactTypes,
    })
    this.#pool.on('error', error => o.log.warn({ err: error }, 'an idle database connection was lost'))
  }

  async query<T = Row>(text: string, values: unknown[] = []): Promise<T[]> {
    try {
      const result = await this.#pool.query(text, values)
      return result.rows as T[]
    } catch (error) {
      throw asFailure(error)
    }
  }

  /** The only row of a query that always gives one. */
  async one<T = Row>(text: string, values: unknown[] = []): Promise<T> {
    const rows = await this.query<T>(text, values)
    if (rows.length !== 1) throw new Error(`expected one row, got ${rows.length}: ${text}`)
    return rows[0] as T
  }

  /** Runs `work` in one transaction; any throw rolls back. */
  async transaction<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect().catch(error => {
      throw asFailure(error)
    })
    let broken: Error | undefined
    try {
      await client.query('BEGIN')
      const value = await work(client)
      await client.query('COMMIT')
      return value
    } catch (error) {
      await client.query('ROLLBACK').catch((cause: Error) => {
        broken = cause
      })
      throw asFailure(error)
    } finally {
      client.release(broken)
    }
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }
}

/** True when the server never said how the statement ended, or never saw it. */
export function isConnectionTrouble(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof Failure) return false
  const { code, severity } = error as { code?: string; severity?: string }
  if (severity === 'FATAL' || severity === 'PANIC') return true
  if (code !== undefined && /^(08|57P0)/.test(code)) return true
  if (
    code !== undefined &&
    /^(ECONN|EPIPE|ENOENT|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_)/.test(code)
  )
    return true
  return severity === undefined && /timeout|terminated|not queryable|connection/i.test(error.message)
}

function asFailure(error: unknown): unknown {
  if (isRecovering(error))
    return databaseError('DATABASE_RECOVERING', { retryAfterSeconds: 2 }, { cause: error })
  if (!isConnectionTrouble(error)) return error
  return databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause: error })
}
