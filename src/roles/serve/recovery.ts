import type { onRequestHookHandler } from 'fastify'
import type { Retirement } from '#game/retirement.ts'
import type { ReconcileOptions, Reconciliation } from '#ledger/reconcile.ts'
import { commonFailure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Database } from '#postgres/client/database.ts'

export interface RecoveryOptions {
  database: Pick<Database, 'query' | 'one'>
  retirement: Pick<Retirement, 'retireAll' | 'revealLeft'>
  /** Reads the books; see ledger/reconcile.ts. */
  reconcile: (onProgress: ReconcileOptions['onProgress']) => Promise<Reconciliation>
  log: Log
}

interface Unfinished {
  id: string
  cause: string
  restored_to: string
}

const retiring = 'its seeds are being retired'
// Reading all books takes as long as they are; somebody has to mend them first.
const booksAgainMs = 60_000

/**
 * What a server owes its players after a restore (architecture, rule 8). The database itself moves no chips while a
 * recovery is unfinished (migrations/0009_recoveries.sql), so this decides nothing about safety: it works the recovery
 * off, and says 503 early, in words, on everything that belongs to a player. Any number of servers may do so at once.
 */
export class Recovery {
  readonly #o: RecoveryOptions
  /** Why players have to wait; a server that has not looked yet knows no better than to let them. */
  #reason: string | undefined = 'The server is still starting.'
  #doing = () => retiring
  #booksNotBeforeMs = 0
  #triedToReveal = false

  constructor(options: RecoveryOptions) {
    this.#o = options
  }

  get reason(): string | undefined {
    return this.#reason
  }

  /** Whether there is an unfinished recovery, as the database says now. @throws DATABASE_UNAVAILABLE */
  async look(): Promise<Unfinished | undefined> {
    const [unfinished] = await this.#o.database.query<Unfinished>(
      `SELECT id, cause, restored_to FROM recoveries WHERE finished_at IS NULL
       ORDER BY pairs_through DESC, begun_at DESC LIMIT 1`,
    )
    this.#reason =
      unfinished &&
      `The database was restored (${unfinished.cause}: ${unfinished.restored_to}): ${this.#doing()}.`
    return unfinished
  }

  /** Looks, and works off what it finds; resolves when it is done, must wait or was told to stop. */
  async attend(signal: AbortSignal): Promise<void> {
    const unfinished = await this.look()
    // Once per start: a key that was missing comes back with a restart, since keys are read then.
    if (!this.#triedToReveal) await this.#o.retirement.revealLeft()
    this.#triedToReveal = true
    if (!unfinished || performance.now() < this.#booksNotBeforeMs) return
    this.#o.log.warn({ recovery: unfinished }, 'recovery after a restore goes on')
    const retired = await this.#o.retirement.retireAll({
      signal,
      onProgress: ({ accounts }) => {
        this.#doing = () => `${retiring}, ${accounts} accounts so far`
      },
    })
    if (retired.unreadable > 0)
      this.#o.log.error(
        retired,
        'seeds were retired that no key in .secrets/seed_keys opens; put the key back',
      )
    if (signal.aborted || !(await this.#booksAreWhole(signal))) return
    await this.#finish(unfinished, retired)
  }

  /** A Fastify onRequest hook: UNAVAILABLE (503) on routes of players while they have to wait. */
  readonly refuse: onRequestHookHandler = (request, _reply, done) => {
    if (this.#reason === undefined || !playerRoutes.has(request.routeOptions.url ?? '')) return done()
    done(commonFailure('UNAVAILABLE', { reason: this.#reason, retryAfterSeconds: 2 }))
  }

  async #booksAreWhole(signal: AbortSignal): Promise<boolean> {
    const startedMs = performance.now()
    // With the time, so that whoever waits for us sees that we get on with it.
    const onProgress = ({ check }: { check: string }) => {
      this.#doing = () => {
        const seconds = Math.round((performance.now() - startedMs) / 1000)
        return `its books are being checked, ${check} after ${seconds} s`
      }
    }
    const books = await Promise.race([this.#o.reconcile(onProgress), aborted(signal)])
    if (!books) return false
    if (books.clean) return true
    const wrong = books.checks.filter(check => check.mismatches > 0n)
    const names = wrong.map(check => check.name).join(', ')
    this.#doing = () => `its books are not whole (${names}), see \`moonyetis reconcile\``
    this.#booksNotBeforeMs = performance.now() + booksAgainMs
    this.#o.log.error({ wrong }, 'the books of the restored database are not whole')
    return false
  }

  async #finish(unfinished: Unfinished, retired: { accounts: number; unreadable: number }): Promise<void> {
    const { done } = await this.#o.database.one<{ done: boolean }>('SELECT finish_recovery($1, $2) AS done', [
      unfinished.id,
      JSON.stringify({ accountsRetired: retired.accounts, seedsUnreadable: retired.unreadable }),
    ])
    this.#doing = () => retiring
    if (done) this.#o.log.warn({ recovery: unfinished, ...retired }, 'recovery is finished: play goes on')
    await this.look()
  }
}

/**
 * Money and sessions. Signing out stays possible: it ends what is ended anyway, and operators leave by it; so do the
 * rules of the game and the verifier, which ask nothing of the database.
 */
const playerRoutes = new Set([
  '/api/auth/demo',
  '/api/auth/session',
  '/api/game/spin',
  '/api/game/seeds',
  '/api/game/seeds/rotate',
  '/api/game/seeds/retired',
  '/api/game/rounds',
  '/api/game/rounds/:id',
])

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise(resolve => {
    if (signal.aborted) resolve(undefined)
    else signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
}
