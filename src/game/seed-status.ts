import type { Database } from '#postgres/client/database.ts'
import { gameError } from './errors.ts'

/** The answer of GET /api/game/seeds. */
export interface Seeds {
  serverSeedHash: string
  nextServerSeedHash: string
  clientSeed: string
  nonce: number
}

/** One entry of GET /api/game/seeds/retired. */
export interface RetiredSeeds {
  serverSeedHash: string
  /** Null while no server has the key that sealed it. */
  serverSeed: string | null
  /** Null of a pair that was still the next one. */
  clientSeed: string | null
  /** Rounds of it that came back with the restore. */
  rounds: number
}

interface RetiredRow {
  server_seed_hash: string
  server_seed: string | null
  client_seed: string | null
  rounds: bigint
}

// Two per restore: more than anybody will have lived through.
const mostRetired = 100

interface Row {
  server_seed_hash: string
  next_server_seed_hash: string
  client_seed: string
  next_nonce: bigint
}

/** A player's commitments as the database has them; not the seats, whose nonce may run ahead of a commit. */
export class SeedStatus {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async of(accountId: bigint): Promise<Seeds> {
    const [row] = await this.#database.query<Row>(
      'SELECT server_seed_hash, next_server_seed_hash, client_seed, next_nonce FROM read_seat($1)',
      [accountId],
    )
    if (!row) throw gameError('GAME_ACCOUNT_UNKNOWN', { accountId })
    return {
      serverSeedHash: row.server_seed_hash,
      nextServerSeedHash: row.next_server_seed_hash,
      clientSeed: row.client_seed,
      nonce: Number(row.next_nonce),
    }
  }

  /** Pairs that a recovery took out of play, newest first: with them a player verifies the rounds that were lost, too. */
  async retired(accountId: bigint): Promise<RetiredSeeds[]> {
    const rows = await this.#database.query<RetiredRow>(
      `SELECT server_seed_hash, server_seed, client_seed, rounds FROM seed_pairs
       WHERE account_id = $1 AND state = 'retired' ORDER BY id DESC LIMIT ${mostRetired}`,
      [accountId],
    )
    return rows.map(row => ({
      serverSeedHash: row.server_seed_hash,
      serverSeed: row.server_seed,
      clientSeed: row.client_seed,
      rounds: Number(row.rounds),
    }))
  }
}
