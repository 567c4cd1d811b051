import { type Clock, systemClock } from '#lib/clock.ts'
import type { Database } from '#postgres/client/database.ts'
import { identityError } from './errors.ts'
import type { IdentityMetrics } from './metrics.ts'
import { SessionCache } from './session-cache.ts'
import { hashToken, isPlayerToken } from './tokens.ts'

export interface Player {
  playerId: bigint
  accountId: bigint
  kind: 'demo' | 'wallet'
  /** Of wallet players. */
  address?: string
}

export interface Session {
  player: Player
  expiresAt: Date
}

/** What the database pushes about sessions; see SessionListener. */
export interface SessionNotices {
  /** From now on no revocation is missed. */
  hearing(): void
  /** Revocations may be missed from now on. */
  deaf(): void
  /** The session with this hash (hex) has ended; any other text means: believe nothing that was verified before. */
  ended(hash: string): void
}

export interface SessionsOptions {
  database: Pick<Database, 'query'>
  listener: { start(notices: SessionNotices): void; close(): Promise<void> }
  config: { sessionCacheSeconds: number; sessionCacheEntries: number }
  metrics: IdentityMetrics
  clock?: Clock
}

// More distinct tokens at once than this is a flood; the pool behind could not answer in time anyway.
const lookupLimit = 1_000

interface Lookup {
  answer: Promise<Session | undefined>
  /** False once a revocation came, or could have been missed, while the query was on its way. */
  cacheable: boolean
}

interface SessionRow {
  player_id: bigint
  account_id: bigint
  kind: Player['kind']
  address: string | null
  expires_in_ms: number
}

/**
 * Who a session token belongs to. Sessions live in PostgreSQL, as SHA-256 of their token; a verified one is believed
 * for at most sessionCacheSeconds, never past its own end, and only while revocations are pushed to us.
 */
export class Sessions {
  readonly #o: SessionsOptions
  readonly #clock: Clock
  readonly #cacheMs: number
  readonly #cache: SessionCache<Session>
  readonly #lookups = new Map<string, Lookup>()
  #hearing = false

  constructor(options: SessionsOptions) {
    this.#o = options
    this.#clock = options.clock ?? systemClock
    this.#cacheMs = options.config.sessionCacheSeconds * 1000
    this.#cache = new SessionCache(options.config.sessionCacheEntries)
    options.metrics.watchCache({ entries: () => this.#cache.size, isUsable: () => this.#hearing })
  }

  /** Sessions work before the first notice too, only slower. */
  start(): void {
    this.#o.listener.start({
      hearing: () => {
        this.#hearing = true
      },
      deaf: () => this.#becomeDeaf(),
      ended: hash => {
        this.#o.metrics.revocations.inc()
        if (/^[0-9a-f]{64}$/.test(hash)) this.#forget(hash)
        else this.#forgetAll()
      },
    })
  }

  async close(): Promise<void> {
    await this.#o.listener.close()
    this.#becomeDeaf()
  }

  /** The player, when the session was verified a moment ago; asks nobody. For the hot path, before authenticate. */
  peek(token: string): Player | undefined {
    if (!isPlayerToken(token)) return undefined
    return this.#fresh(hashToken(token))?.player
  }

  /** The player of a session; undefined when there is no such session. @throws DATABASE_UNAVAILABLE, IDENTITY_BUSY. */
  async authenticate(token: string): Promise<Player | undefined> {
    return (await this.find(token))?.player
  }

  /** As authenticate, with the end of the session. */
  async find(token: string): Promise<Session | undefined> {
    if (!isPlayerToken(token)) return undefined
    const hash = hashToken(token)
    return this.#fresh(hash) ?? (await this.#lookUpOnce(hash))
  }

  /** Ends the session on every server; false when there was none. @throws DATABASE_UNAVAILABLE: it may live on. */
  async end(token: string): Promise<boolean> {
    if (!isPlayerToken(token)) return false
    const hash = hashToken(token)
    const rows = await this.#o.database.query<{ ended: boolean }>('SELECT close_session($1) AS ended', [
      Buffer.from(hash, 'hex'),
    ])
    // Our own notice is still on its way.
    this.#forget(hash)
    return rows[0]?.ended ?? false
  }

  /** Deletes sessions past their end, in bounded steps; for housekeeping. Returns how many went. */
  async deleteExpired(): Promise<bigint> {
    const rows = await this.#o.database.query<{ gone: bigint }>('SELECT expire_sessions() AS gone')
    return rows[0]?.gone ?? 0n
  }

  #fresh(hash: string): Session | undefined {
    const session = this.#cache.get(hash, this.#clock.monotonicMs())
    if (session !== undefined) this.#o.metrics.cached.inc()
    return session
  }

  /** Requests that come while the same token is being looked up share one query. */
  #lookUpOnce(hash: string): Promise<Session | undefined> {
    const running = this.#lookups.get(hash)
    if (running !== undefined) return running.answer
    if (this.#lookups.size >= lookupLimit) throw identityError('IDENTITY_BUSY', { retryAfterSeconds: 1 })
    const lookup: Lookup = { cacheable: this.#hearing, answer: Promise.resolve(undefined) }
    lookup.answer = this.#lookUp(hash, lookup).finally(() => {
      if (this.#lookups.get(hash) === lookup) this.#lookups.delete(hash)
    })
    this.#lookups.set(hash, lookup)
    return lookup.answer
  }

  async #lookUp(hash: string, lookup: Lookup): Promise<Session | undefined> {
    // Counted from before the question: the answer may have been true only then.
    const askedMs = this.#clock.monotonicMs()
    const row = await this.#query(hash)
    if (row === undefined) return undefined
    const session = toSession(row, this.#clock.now())
    const cacheForMs = Math.min(this.#cacheMs, row.expires_in_ms)
    if (lookup.cacheable && cacheForMs > 0) this.#cache.set(hash, session, askedMs + cacheForMs)
    return session
  }

  async #query(hash: string): Promise<SessionRow | undefined> {
    const { database, metrics } = this.#o
    try {
      const [row] = await database.query<SessionRow>(
        'SELECT player_id, account_id, kind, address, expires_in_ms FROM find_session($1)',
        [Buffer.from(hash, 'hex')],
      )
      if (row === undefined) metrics.unknown.inc()
      else metrics.found.inc()
      return row
    } catch (error) {
      metrics.failed.inc()
      throw error
    }
  }

  #forget(hash: string): void {
    this.#cache.delete(hash)
    const lookup = this.#lookups.get(hash)
    if (lookup === undefined) return
    lookup.cacheable = false
    // Who asks from now on must not get an answer from before the revocation.
    this.#lookups.delete(hash)
  }

  #becomeDeaf(): void {
    this.#hearing = false
    this.#forgetAll()
  }

  #forgetAll(): void {
    this.#cache.clear()
    for (const lookup of this.#lookups.values()) lookup.cacheable = false
    this.#lookups.clear()
  }
}

function toSession(row: SessionRow, now: Date): Session {
  const { player_id: playerId, account_id: accountId, kind, address } = row
  return {
    player: { playerId, accountId, kind, ...(address === null ? {} : { address }) },
    expiresAt: new Date(now.getTime() + row.expires_in_ms),
  }
}
