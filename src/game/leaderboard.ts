import type { Clock } from '#lib/clock.ts'
import type { Database } from '#postgres/client/database.ts'

export const leaderboardPeriods = ['day', 'week', 'all'] as const
export type LeaderboardPeriod = (typeof leaderboardPeriods)[number]

export interface LeaderboardEntry {
  rank: number
  /** A name that says nothing about the person. */
  player: string
  rounds: string
  staked: string
  won: string
  bestPayout: string
}

interface Row {
  player_id: bigint
  rounds: string
  staked: string
  won: string
  best_payout: bigint
}

const places = 50
// Readers of one moment share one query.
const cacheMs = 2000

/** Players by what they won, from the daily roll-up. Days are UTC; a week is today and the six days before. */
export class Leaderboard {
  readonly #database: Database
  readonly #clock: Clock
  readonly #cache = new Map<LeaderboardPeriod, { atMs: number; entries: Promise<LeaderboardEntry[]> }>()

  constructor(database: Database, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async top(period: LeaderboardPeriod): Promise<LeaderboardEntry[]> {
    const nowMs = this.#clock.monotonicMs()
    const known = this.#cache.get(period)
    if (known && nowMs - known.atMs < cacheMs) return known.entries
    const entries = this.#read(period)
    this.#cache.set(period, { atMs: nowMs, entries })
    // A failed read is not remembered.
    entries.catch(() => this.#cache.delete(period))
    return entries
  }

  /** Adds new rounds to the roll-up, in bounded steps; returns when it has caught up. */
  async rollUp(): Promise<void> {
    for (;;) {
      const { left } = await this.#database.one<{ left: bigint }>('SELECT roll_up_leaderboard() AS left')
      if (left === 0n) return
    }
  }

  async #read(period: LeaderboardPeriod): Promise<LeaderboardEntry[]> {
    const rows = await this.#database.query<Row>(
      `SELECT player_id, sum(rounds) AS rounds, sum(staked) AS staked, sum(won) AS won, max(best_payout) AS best_payout
       FROM leaderboard_days
       WHERE $1 = 'all' OR day > (now() AT TIME ZONE 'UTC')::date - CASE $1 WHEN 'day' THEN 1 ELSE 7 END
       GROUP BY player_id ORDER BY sum(won) DESC, player_id LIMIT ${places}`,
      [period],
    )
    return rows.map((row, index) => ({
      rank: index + 1,
      player: playerName(row.player_id),
      rounds: row.rounds,
      staked: row.staked,
      won: row.won,
      bestPayout: row.best_payout.toString(),
    }))
  }
}

function playerName(playerId: bigint): string {
  return `yeti-${playerId}`
}
