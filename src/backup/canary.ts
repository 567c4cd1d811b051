import pg from 'pg'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn, type Lsn, parseLsn } from '#lib/lsn.ts'
import type { CanaryStatus } from './status.ts'

export interface CanaryRow {
  sequence: bigint
  /** The database's clock. */
  at: Date
  /** A position at or before the row's commit record. */
  lsn: Lsn
}

export interface CanaryOptions {
  /** Connects as a role that may execute write_canary(). */
  target: () => Promise<pg.ClientConfig>
  everyMs: number
  clock: Clock
  log: Log
}

// One that waits for the archive longer than this is told of; the row itself still commits when the archive is back.
const withinMs = 30_000

/**
 * Writes a row every few seconds that restores are measured by: the age of the newest row that comes back is the
 * recovery point, whatever the positions of the log say.
 */
export class Canary {
  readonly #o: CanaryOptions
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<unknown> | undefined
  #last: CanaryRow | undefined
  #lastError: string | undefined

  constructor(options: CanaryOptions) {
    this.#o = options
  }

  start(): void {
    this.#timer = setInterval(() => this.#beat(), this.#o.everyMs)
    this.#beat()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#writing
  }

  status(): CanaryStatus {
    return {
      sequence: this.#last ? String(this.#last.sequence) : null,
      writtenAt: this.#last?.at.toISOString() ?? null,
      lsn: this.#last ? formatLsn(this.#last.lsn) : null,
      lastError: this.#lastError ?? null,
    }
  }

  #beat(): void {
    // A row that waits for a synchronous archive is not joined by more of them.
    if (this.#writing) return
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined
    })
  }

  async #write(): Promise<void> {
    try {
      this.#last = await writeCanary(await this.#o.target())
      this.#lastError = undefined
    } catch (error) {
      const reason = (error as Error).message
      if (reason !== this.#lastError) this.#o.log.warn({ reason }, 'the canary row was not written')
      this.#lastError = reason
    }
  }
}

/** Writes one row over a connection of its own, so that it also finds a server that has moved. */
export async function writeCanary(target: pg.ClientConfig): Promise<CanaryRow> {
  const client = new pg.Client({
    ...target,
    application_name: 'moonyetis canary',
    connectionTimeoutMillis: 5_000,
    query_timeout: withinMs,
  })
  // A connection that breaks between queries emits error; the query after it tells.
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query(
      'SELECT sequence::text, extract(epoch FROM at)::float8 * 1000 AS at_ms, lsn::text FROM write_canary()',
    )
    const [row] = rows as [{ sequence: string; at_ms: number; lsn: string }]
    return { sequence: BigInt(row.sequence), at: new Date(row.at_ms), lsn: parseLsn(row.lsn) ?? 0n }
  } finally {
    await client.end().catch(() => {})
  }
}
