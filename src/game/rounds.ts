import type { Database } from '#postgres/client/database.ts'
import { gameError } from './errors.ts'
import { renderRound } from './render.ts'

interface RoundRow {
  id: bigint
  nonce: bigint
  server_seed_hash: string
  server_seed: string | null
  client_seed: string
  stops: number
  lines: number
  stake_per_line: number
  payout: bigint
  balance_after: bigint
  version: string
  created_at: Date
}

const roundColumns = `r.id, r.nonce, p.server_seed_hash, p.server_seed, p.client_seed, r.stops, r.lines, r.stake_per_line,
  r.payout, r.balance_after, v.hash AS version, r.created_at`
const roundTables = `rounds r JOIN seed_pairs p ON p.id = r.seed_pair_id JOIN game_versions v ON v.id = r.game_version`

/** A player's own rounds, newest first. Bodies are JSON text. */
export class Rounds {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** `before` is the id after which to go on, as nextCursor gave it. */
  async page(accountId: bigint, o: { before?: bigint; limit: number }): Promise<string> {
    const rows = await this.#database.query<RoundRow>(
      `SELECT ${roundColumns} FROM ${roundTables}
       WHERE r.account_id = $1 AND r.id < $2 ORDER BY r.id DESC LIMIT $3`,
      [accountId, o.before ?? 2n ** 63n - 1n, o.limit + 1],
    )
    const page = rows.slice(0, o.limit)
    const last = page.at(-1)
    const nextCursor = rows.length > o.limit && last ? `"${last.id}"` : 'null'
    return `{"rounds":[${page.map(render).join(',')}],"nextCursor":${nextCursor}}`
  }

  /** @throws GAME_ROUND_UNKNOWN (404), for a round of somebody else too. */
  async one(accountId: bigint, id: bigint): Promise<string> {
    const [row] = await this.#database.query<RoundRow>(
      `SELECT ${roundColumns} FROM ${roundTables} WHERE r.account_id = $1 AND r.id = $2`,
      [accountId, id],
    )
    if (!row) throw gameError('GAME_ROUND_UNKNOWN', { id })
    return render(row)
  }
}

function render(row: RoundRow): string {
  return renderRound({
    roundId: row.id,
    nonce: row.nonce,
    serverSeedHash: row.server_seed_hash,
    clientSeed: row.client_seed,
    stops: row.stops,
    lines: row.lines,
    stakePerLine: row.stake_per_line,
    stake: BigInt(row.stake_per_line * row.lines),
    payout: row.payout,
    balanceAfter: row.balance_after,
    version: row.version,
    createdAt: row.created_at,
    ...(row.server_seed === null ? {} : { serverSeed: row.server_seed }),
  })
}
