import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '#lib/errors.ts'
import type { Database } from '#postgres/client/database.ts'
import { hashServerSeed } from './draw.ts'
import { gameError } from './errors.ts'
import { newServerSeed, type SeedKeys } from './seeds.ts'

export interface RetirementOptions {
  database: Pick<Database, 'query' | 'one'>
  keys: Pick<SeedKeys, 'open' | 'seal'>
  /** Accounts in one statement. */
  atOnce?: number
  /** What a round waits after one in which every account was passed over; 250 ms. */
  pauseMs?: number
}

export interface Retired {
  /** Accounts that this server gave new seeds; another server may have done others meanwhile. */
  accounts: number
  /** Seeds of theirs that no key here could open. Their rounds cannot be verified until the key is back. */
  unreadable: number
}

interface SeatRow {
  account_id: bigint
  active_pair: bigint
  active_hash: string
  active_sealed: Buffer
  next_pair: bigint
  next_hash: string
  next_sealed: Buffer
}

interface SealedRow {
  pair: bigint
  server_seed_hash: string
  sealed_seed: Buffer
}

// About 30 ms of seeds, and a statement far below its time limit.
const accountsAtOnce = 250
const pauseMs = 250
// An account is passed over while its owner or another server is at it, which takes milliseconds.
const mostIdleRounds = 20

/**
 * Takes the seeds of a restored database out of play: each account's active and next pair are revealed and replaced.
 * Revealing is safe because the database never draws from a retired pair again, and it is what keeps every round of the
 * pair verifiable: those that came back, and those that only their player still knows of. Killed anywhere it goes on
 * where it was, and any number of servers may be at it: the database passes over accounts that are done.
 */
export class Retirement {
  readonly #o: RetirementOptions

  constructor(options: RetirementOptions) {
    this.#o = options
  }

  /**
   * Resolves when no account plays on old seeds, or when `signal` aborts.
   * @throws GAME_SEATS_LEFT when the database passes over the same accounts again and again, DATABASE_UNAVAILABLE
   */
  async retireAll(
    o: { signal?: AbortSignal; onProgress?: (retired: Retired) => void } = {},
  ): Promise<Retired> {
    const total = { accounts: 0, unreadable: 0 }
    for (let idle = 0; !o.signal?.aborted; ) {
      const before = total.accounts
      const seats = await this.#retireRound(total, o)
      if (seats === 0) break
      // An account that was passed over because it was just rotating is found in the next round.
      idle = total.accounts === before ? idle + 1 : 0
      if (idle === mostIdleRounds) throw gameError('GAME_SEATS_LEFT', { seats })
      if (idle > 0) await this.#pause(o.signal)
    }
    return total
  }

  /** All accounts that still have old seeds, once; answers how many there were. */
  async #retireRound(
    total: Retired,
    o: { signal?: AbortSignal; onProgress?: (retired: Retired) => void },
  ): Promise<number> {
    let found = 0
    let after = 0n
    while (!o.signal?.aborted) {
      const seats = await this.#seatsAfter(after)
      const last = seats.at(-1)
      if (last === undefined) break
      found += seats.length
      const retired = await this.#retire(seats)
      total.accounts += retired.accounts
      total.unreadable += retired.unreadable
      after = last.account_id
      o.onProgress?.(total)
    }
    return found
  }

  /** Ends early, and without an error, when `signal` aborts. */
  async #pause(signal: AbortSignal | undefined): Promise<void> {
    await delay(this.#o.pauseMs ?? pauseMs, undefined, { signal }).catch(() => {})
  }

  /** Reveals what could not be opened when it was retired and can be now. Returns how many seeds. */
  async revealLeft(): Promise<number> {
    let revealed = 0
    let after = 0n
    for (;;) {
      const rows = await this.#o.database.query<SealedRow>('SELECT * FROM read_unrevealed_seeds($1, $2)', [
        after,
        accountsAtOnce,
      ])
      const last = rows.at(-1)
      if (last === undefined) return revealed
      revealed += await this.#reveal(rows)
      after = last.pair
    }
  }

  #seatsAfter(accountId: bigint): Promise<SeatRow[]> {
    return this.#o.database.query<SeatRow>('SELECT * FROM read_seats_to_retire($1, $2)', [
      accountId,
      this.#o.atOnce ?? accountsAtOnce,
    ])
  }

  async #retire(seats: SeatRow[]): Promise<Retired> {
    const active = seats.map(seat => this.#opened(seat.active_sealed, seat.active_hash))
    const next = seats.map(seat => this.#opened(seat.next_sealed, seat.next_hash))
    const fresh = seats.map(() => ({ active: this.#newSealed(), next: this.#newSealed() }))
    const { accounts } = await this.#o.database.one<{ accounts: number }>(
      'SELECT retire_seats($1, $2, $3, $4, $5, $6, $7, $8, $9) AS accounts',
      [
        seats.map(seat => seat.account_id),
        seats.map(seat => seat.active_pair),
        active,
        seats.map(seat => seat.next_pair),
        next,
        fresh.map(one => one.active.hash),
        fresh.map(one => one.active.sealed),
        fresh.map(one => one.next.hash),
        fresh.map(one => one.next.sealed),
      ],
    )
    return { accounts, unreadable: [...active, ...next].filter(seed => seed === null).length }
  }

  async #reveal(rows: SealedRow[]): Promise<number> {
    const opened = rows
      .map(row => ({ pair: row.pair, seed: this.#opened(row.sealed_seed, row.server_seed_hash) }))
      .filter(one => one.seed !== null)
    if (opened.length === 0) return 0
    const { revealed } = await this.#o.database.one<{ revealed: number }>(
      'SELECT reveal_seeds($1, $2) AS revealed',
      [opened.map(one => one.pair), opened.map(one => one.seed)],
    )
    return revealed
  }

  // A key that is lost must not keep everybody from playing: what it sealed is retired all the same, and stays sealed.
  #opened(sealed: Buffer, hash: string): string | null {
    try {
      return this.#o.keys.open(sealed, hash)
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'GAME_SEED_UNREADABLE') throw error
      return null
    }
  }

  #newSealed(): { hash: string; sealed: Buffer } {
    const seed = newServerSeed()
    const hash = hashServerSeed(seed)
    return { hash, sealed: this.#o.keys.seal(seed, hash) }
  }
}
