import { gameConfig, gameVersion } from '#game/version.ts'
import type { ReadyReport } from '#http/types.ts'
import { commonFailure, Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Database } from '#postgres/client/database.ts'
import { type Chain, checkInstallation } from '#postgres/client/installation.ts'

// A probe costs at most two queries a second, however many probes there are.
const believeMs = 500
const retryMs = 100

/**
 * Whether this server may play: the database answers, its schema and chain are the right ones, and the game version is
 * registered. The server listens before that, so that probes and operators get an answer while PostgreSQL is away.
 */
export class Readiness {
  readonly #o: { database: Database; chain: Chain; log: Log }
  /** Rejects when the database is one that this program must not use. */
  readonly unfit: Promise<never>
  readonly #refuse: (error: unknown) => void
  #gameVersion: number | undefined
  #reason = 'starting: the database was not checked yet'
  #checked: { atMs: number; report: Promise<ReadyReport> } | undefined
  #preparing: Promise<void> | undefined
  #closed = false

  constructor(o: { database: Database; chain: Chain; log: Log }) {
    this.#o = o
    const { promise, reject } = Promise.withResolvers<never>()
    this.unfit = promise
    this.#refuse = reject
    // Nobody may be waiting yet; serve() hears of it when it looks.
    promise.catch(() => {})
  }

  start(): void {
    this.#preparing = this.#prepare()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#preparing
  }

  /** The id under which rounds name the game version. @throws UNAVAILABLE (503) before the first check passed. */
  gameVersion(): number {
    if (this.#gameVersion !== undefined) return this.#gameVersion
    throw commonFailure('UNAVAILABLE', { reason: 'The server is still starting.', retryAfterSeconds: 1 })
  }

  report(): Promise<ReadyReport> {
    const now = performance.now()
    if (!this.#checked || now - this.#checked.atMs > believeMs) {
      this.#checked = { atMs: now, report: this.#check() }
    }
    return this.#checked.report
  }

  async #check(): Promise<ReadyReport> {
    if (this.#gameVersion === undefined) return { ready: false, reasons: [this.#reason] }
    try {
      await this.#o.database.query('SELECT 1')
      return { ready: true, reasons: [] }
    } catch {
      return { ready: false, reasons: ['the database does not answer'] }
    }
  }

  async #prepare(): Promise<void> {
    const { database, chain, log } = this.#o
    while (!this.#closed && this.#gameVersion === undefined) {
      try {
        await checkInstallation(database, chain)
        await database.query('SELECT ensure_partitions()')
        const { id } = await database.one<{ id: number }>('SELECT register_game_version($1, $2) AS id', [
          gameVersion,
          JSON.stringify(gameConfig),
        ])
        this.#gameVersion = id
        this.#checked = undefined
        log.info({ gameVersion, id }, 'ready to play')
      } catch (error) {
        if (error instanceof Failure && !error.row.retry) return this.#refuse(error)
        this.#reason = error instanceof Failure ? error.message : 'the database check failed'
        log.warn({ err: error }, 'not ready yet')
        await new Promise(resolve => setTimeout(resolve, retryMs))
      }
    }
  }
}
