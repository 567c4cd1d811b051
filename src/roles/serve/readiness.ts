import { setTimeout as delay } from 'node:timers/promises'
import { gameConfig, gameVersion } from '#game/version.ts'
import type { ReadyReport } from '#http/types.ts'
import { commonFailure, Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Database } from '#postgres/client/database.ts'
import { type Chain, checkInstallation } from '#postgres/client/installation.ts'
import type { Recovery } from './recovery.ts'

// A probe costs at most two queries a second, however many probes there are.
const believeMs = 500
const retryMs = 100
// How soon a restored database is noticed without a probe; until then it refuses by itself what must not be.
const watchMs = 1000

export interface ReadinessOptions {
  database: Database
  chain: Chain
  recovery: Pick<Recovery, 'attend' | 'look' | 'reason'>
  log: Log
}

/**
 * Whether this server may play: the database answers, its schema and chain are the right ones, no recovery is
 * unfinished, and the game version is registered. The server listens before that, so that probes and operators get an
 * answer while PostgreSQL is away.
 */
export class Readiness {
  readonly #o: ReadinessOptions
  /** Rejects when the database is one that this program must not use. */
  readonly unfit: Promise<never>
  readonly #refuse: (error: unknown) => void
  readonly #closing = new AbortController()
  #gameVersion: number | undefined
  #reason = 'starting: the database was not checked yet'
  #checked: { atMs: number; report: Promise<ReadyReport> } | undefined
  #running: Promise<void> | undefined

  constructor(o: ReadinessOptions) {
    this.#o = o
    const { promise, reject } = Promise.withResolvers<never>()
    this.unfit = promise
    this.#refuse = reject
    // Nobody may be waiting yet; serve() hears of it when it looks.
    promise.catch(() => {})
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#running
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
    const { recovery } = this.#o
    try {
      await recovery.look()
    } catch {
      return { ready: false, reasons: ['the database does not answer'] }
    }
    return recovery.reason === undefined
      ? { ready: true, reasons: [] }
      : { ready: false, reasons: [recovery.reason] }
  }

  /** Until close(): prepares, then keeps watch, for the database may be replaced by a restored one at any time. */
  async #run(): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        if (this.#gameVersion === undefined) await this.#prepare()
        await this.#o.recovery.attend(signal)
        this.#reason = ''
        await this.#pause(watchMs)
      } catch (error) {
        if (this.#gameVersion === undefined && error instanceof Failure && !error.row.retry)
          return this.#refuse(error)
        this.#say(error instanceof Failure ? error.message : 'the database check failed', error)
        await this.#pause(this.#gameVersion === undefined ? retryMs : watchMs)
      }
    }
  }

  async #prepare(): Promise<void> {
    const { database, chain, log } = this.#o
    await checkInstallation(database, chain)
    await database.query('SELECT ensure_partitions()')
    const { id } = await database.one<{ id: number }>('SELECT register_game_version($1, $2) AS id', [
      gameVersion,
      JSON.stringify(gameConfig),
    ])
    this.#gameVersion = id
    this.#checked = undefined
    log.info({ gameVersion, id }, 'the game is registered')
  }

  // An outage is told once, not at every look.
  #say(reason: string, error: unknown): void {
    if (reason !== this.#reason) this.#o.log.warn({ err: error }, 'not ready')
    this.#reason = reason
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#closing.signal }).catch(() => {})
  }
}
