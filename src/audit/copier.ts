import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '#lib/log.ts'
import type { Database } from '#postgres/client/database.ts'
import { auditError } from './errors.ts'
import type { RecordedEvent } from './event.ts'
import type { Journal } from './journal.ts'
import type { AuditMetrics } from './metrics.ts'

export interface CopierOptions {
  journal: Pick<Journal, 'source' | 'after' | 'lastSequence' | 'onRecord'>
  database: Pick<Database, 'one'>
  metrics: AuditMetrics
  log: Log
  /** How often to look for what other processes (the command line) recorded. */
  pollMs?: number
  firstBackoffMs?: number
}

// An event is 8 KiB at most, so a page stays below 1 MiB.
const pageEvents = 100
const longestBackoffMs = 30_000

/**
 * Copies the journal to PostgreSQL, in order, whenever PostgreSQL is there. The database says where it ends and takes
 * an event that it holds already as done, so nothing is lost or doubled however often this is interrupted.
 */
export class Copier {
  readonly #o: Required<CopierOptions>
  readonly #closing = new AbortController()
  #wake = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  #closed: Promise<void> | undefined
  /** The highest sequence that the database is known to hold; unknown until it was asked. */
  #copied: number | undefined

  constructor(options: CopierOptions) {
    this.#o = { pollMs: 5_000, firstBackoffMs: 500, ...options }
    const { journal, metrics } = this.#o
    metrics.watchBacklog(() => journal.lastSequence() - (this.#copied ?? 0))
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Copies what is left, as far as that goes within the deadline; what stays is copied after the next start. */
  close(withinMs = 2_000): Promise<void> {
    this.#closed ??= this.#close(withinMs)
    return this.#closed
  }

  /** One pass: copies all that is recorded now. Returns how many events the database took. */
  async copy(): Promise<number> {
    const { journal } = this.#o
    if (this.#copied !== undefined && journal.lastSequence() <= this.#copied) return 0
    // Asked anew on each pass: the database may have been restored to an earlier time meanwhile.
    const before = await this.#append([])
    const local = journal.lastSequence()
    if (before > local) {
      throw auditError('AUDIT_JOURNAL_BEHIND', { source: journal.source, local, copied: before })
    }
    this.#copied = before
    for (;;) {
      const page = journal.after(this.#copied, pageEvents)
      const last = page.at(-1)
      if (last === undefined) return this.#copied - before
      this.#copied = await this.#append(page)
      assert(this.#copied >= last.sequence, 'what was appended is stored')
      this.#o.metrics.copied.inc(page.length)
    }
  }

  async #close(withinMs: number): Promise<void> {
    this.#closing.abort()
    this.#wake.resolve()
    const enough = new AbortController()
    const last = (this.#running ?? Promise.resolve()).then(() => this.copy()).catch(() => {})
    await Promise.race([last, delay(withinMs, undefined, { signal: enough.signal }).catch(() => {})])
    enough.abort()
  }

  async #run(): Promise<void> {
    const undo = this.#o.journal.onRecord(() => this.#wake.resolve())
    let failures = 0
    while (!this.#closing.signal.aborted) {
      this.#wake = Promise.withResolvers()
      try {
        await this.copy()
        if (failures > 0) this.#o.log.info('audit events are copied again')
        failures = 0
        await this.#wait(this.#o.pollMs, this.#wake.promise)
      } catch (error) {
        this.#o.metrics.failures.inc()
        // Said once per outage; the backlog metric tells how it goes on.
        if (failures++ === 0) this.#o.log.warn({ err: error }, 'audit events cannot be copied now')
        await this.#wait(Math.min(this.#o.firstBackoffMs * 2 ** (failures - 1), longestBackoffMs))
      }
    }
    undo()
  }

  async #wait(ms: number, orUntil?: Promise<void>): Promise<void> {
    const enough = new AbortController()
    const signal = AbortSignal.any([this.#closing.signal, enough.signal])
    const time = delay(ms, undefined, { signal }).catch(() => {})
    await (orUntil === undefined ? time : Promise.race([time, orUntil]))
    enough.abort()
  }

  /** Resolves with the highest sequence that the database holds of this journal. */
  async #append(events: readonly RecordedEvent[]): Promise<number> {
    const row = await this.#o.database.one<{ highest: bigint | null }>(
      'SELECT append_audit_events($1, $2::jsonb) AS highest',
      [this.#o.journal.source, JSON.stringify(events)],
    )
    return Number(row.highest ?? 0n)
  }
}
