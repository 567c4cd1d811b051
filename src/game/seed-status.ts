import type { Database } from '#postgres/client/database.ts'
import { gameError } from './errors.ts'

/** The answer of GET /api/game/seeds. */
export interface Seeds {
  serverSeedHash: string
  nextServerSeedHash: string
  clientSeed: string
  nonce: number
}

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
}
