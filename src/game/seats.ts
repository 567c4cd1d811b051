import type { Database } from '#postgres/client/database.ts'
import { gameError } from './errors.ts'
import type { SeedKeys } from './seeds.ts'

/** What a server holds of an account to draw for it. The database decides; this is what it last said. */
export interface Seat {
  readonly accountId: bigint
  seedPairId: bigint
  serverSeed: string
  serverSeedHash: string
  clientSeed: string
  nextServerSeedHash: string
  /** The nonce of the account's next accepted round. */
  nonce: number
  balance: bigint
  /** Spins submitted and not answered; the next one is drawn at nonce + pending. */
  pending: number
}

interface SeatRow {
  seed_pair_id: bigint
  next_nonce: bigint
  balance: bigint
  server_seed_hash: string
  sealed_seed: Buffer
  client_seed: string
  next_server_seed_hash: string
}

/** Seats by account, bounded: the ones read first are dropped first, and a seat with pending spins is never dropped. */
export class Seats {
  readonly #database: Database
  readonly #keys: SeedKeys
  readonly #most: number
  readonly #seats = new Map<bigint, Seat>()
  readonly #loading = new Map<bigint, Promise<Seat>>()

  constructor(o: { database: Database; keys: SeedKeys; most?: number }) {
    this.#database = o.database
    this.#keys = o.keys
    // About 600 bytes each: 30 MB.
    this.#most = o.most ?? 50_000
  }

  /** The seat if it is here. */
  peek(accountId: bigint): Seat | undefined {
    return this.#seats.get(accountId)
  }

  /** @throws GAME_ACCOUNT_UNKNOWN, GAME_SEED_UNREADABLE, DATABASE_UNAVAILABLE */
  async get(accountId: bigint): Promise<Seat> {
    const seat = this.#seats.get(accountId)
    if (seat) return seat
    const loading = this.#loading.get(accountId)
    if (loading) return loading
    const started = this.#load(accountId).finally(() => this.#loading.delete(accountId))
    this.#loading.set(accountId, started)
    return started
  }

  /**
   * The account's one seat: `seat`, unless another came into its place. To be called between an awaited get and what
   * makes the seat pending: it may have been dropped meanwhile, and two seats of one account would draw side by side.
   */
  keep(seat: Seat): Seat {
    const current = this.#seats.get(seat.accountId)
    if (current) return current
    this.#seats.set(seat.accountId, seat)
    return seat
  }

  /** Reads the seat again, in place: spins that hold it see the new state. */
  async refresh(seat: Seat): Promise<void> {
    Object.assign(seat, await this.#read(seat.accountId))
  }

  async #load(accountId: bigint): Promise<Seat> {
    const seat: Seat = { accountId, pending: 0, ...(await this.#read(accountId)) }
    if (this.#seats.size >= this.#most) this.#dropOldest()
    this.#seats.set(accountId, seat)
    return seat
  }

  async #read(accountId: bigint): Promise<Omit<Seat, 'accountId' | 'pending'>> {
    const [row] = await this.#database.query<SeatRow>('SELECT * FROM read_seat($1)', [accountId])
    if (!row) throw gameError('GAME_ACCOUNT_UNKNOWN', { accountId })
    return {
      seedPairId: row.seed_pair_id,
      serverSeed: this.#keys.open(row.sealed_seed, row.server_seed_hash),
      serverSeedHash: row.server_seed_hash,
      clientSeed: row.client_seed,
      nextServerSeedHash: row.next_server_seed_hash,
      nonce: Number(row.next_nonce),
      balance: row.balance,
    }
  }

  // Maps keep insertion order. A tenth goes at once, so that a full table is not swept at every sign-in.
  #dropOldest(): void {
    let left = Math.ceil(this.#most / 10)
    for (const [accountId, seat] of this.#seats) {
      if (left === 0) return
      if (seat.pending > 0) continue
      this.#seats.delete(accountId)
      left--
    }
  }
}
