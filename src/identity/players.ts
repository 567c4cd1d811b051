import type { Database } from '#postgres/client/database.ts'
import { identityError } from './errors.ts'
import type { IdentityMetrics } from './metrics.ts'
import { hashBytes, newPlayerToken } from './tokens.ts'

/** Makes a fresh server seed: `hash` is its published commitment, `sealed` the encrypted seed for the database. */
export interface SeedSource {
  newSealedSeed(): { hash: string; sealed: Uint8Array }
}

export interface OpenedPlayer {
  /** Shown once; the database keeps its hash only. */
  token: string
  playerId: bigint
  accountId: bigint
  kind: 'demo'
  /** Whole chips. */
  balance: bigint
}

export interface PlayersOptions {
  database: Pick<Database, 'query' | 'one'>
  seeds: SeedSource
  config: { sessionHours: number }
  metrics: IdentityMetrics
}

// SQLSTATE of migrations/0003_game.sql: the installation is not on the simulated chain.
const demoOffState = 'MY002'

export class Players {
  readonly #o: PlayersOptions

  constructor(options: PlayersOptions) {
    this.#o = options
  }

  /**
   * A new play-money player with 1,000,000 chips, signed in.
   * @throws IDENTITY_DEMO_OFF unless the chain is simulated, DATABASE_UNAVAILABLE.
   */
  async openDemoPlayer(): Promise<OpenedPlayer> {
    const { seeds, config, metrics } = this.#o
    const token = newPlayerToken()
    const [active, next] = [seeds.newSealedSeed(), seeds.newSealedSeed()]
    try {
      const row = await this.#o.database.one<{ player_id: bigint; account_id: bigint; balance: bigint }>(
        `SELECT player_id, account_id, balance
         FROM open_demo_player($1, make_interval(hours => $2), $3, $4, $5, $6)`,
        [hashBytes(token), config.sessionHours, active.hash, active.sealed, next.hash, next.sealed],
      )
      metrics.demoAccepted.inc()
      return {
        token,
        playerId: row.player_id,
        accountId: row.account_id,
        kind: 'demo',
        balance: row.balance,
      }
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code !== demoOffState) throw error
      metrics.demoRefused.inc()
      throw identityError('IDENTITY_DEMO_OFF', {}, { cause: error })
    }
  }

  /** Whole chips on a player's account now. */
  async balance(accountId: bigint): Promise<bigint> {
    const row = await this.#o.database.one<{ balance: bigint }>(
      'SELECT balance FROM accounts WHERE id = $1',
      [accountId],
    )
    return row.balance
  }
}
