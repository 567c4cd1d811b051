import { ledgerError } from '#ledger/errors.ts'
import { type IdempotencyKey, requestHash } from '#ledger/keys.ts'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Channel } from '#postgres/client/channel.ts'
import type { Database } from '#postgres/client/database.ts'
import { databaseError } from '#postgres/client/errors.ts'
import { isDistress, isPassing, isReadOnly } from '#postgres/client/sql-states.ts'
import { hashServerSeed } from './draw.ts'
import { gameError } from './errors.ts'
import type { Seats } from './seats.ts'
import { newServerSeed, type SeedKeys } from './seeds.ts'

export interface RotationOptions {
  /** Not the one that settles spins: a rotation must not wait behind a batch, nor a batch behind it. */
  channel: Channel
  database: Database
  seats: Seats
  keys: SeedKeys
  clock: Clock
  patienceMs?: number
}

export interface Rotated {
  /** The JSON answer, the same bytes on every repeat of the key. */
  body: string
  replayed: boolean
}

const reconnectPauseMs = 50

/** Reveals a player's active server seed and moves on to the next pair, whose commitment was published before. */
export class Rotation {
  readonly #o: RotationOptions
  readonly #patienceMs: number

  constructor(options: RotationOptions) {
    this.#o = options
    this.#patienceMs = options.patienceMs ?? 8000
  }

  /** @throws IDEMPOTENCY_KEY_REUSED (422), DATABASE_UNAVAILABLE, DATABASE_OUTCOME_UNKNOWN (503, repeat with the key) */
  async rotate(request: { accountId: bigint; key: IdempotencyKey; clientSeed: string }): Promise<Rotated> {
    const deadlineMs = this.#o.clock.monotonicMs() + this.#patienceMs
    let unknown = false
    /** Commitments of our attempts: an answer that names one of them is the first answer to this request. */
    const offered: string[] = []
    for (;;) {
      let cause: unknown
      try {
        const body = await this.#attempt(request, offered)
        if (body !== undefined) return { body, replayed: !offered.some(hash => body.includes(hash)) }
      } catch (error) {
        // Repeating is safe: the key is looked up under the account's lock, after the old backend is gone.
        if (!isTransient(error)) throw error
        unknown ||= error instanceof Failure && error.code === 'DATABASE_OUTCOME_UNKNOWN'
        cause = error
        await new Promise(resolve => setTimeout(resolve, reconnectPauseMs))
      }
      if (this.#o.clock.monotonicMs() > deadlineMs) {
        const code = unknown ? 'DATABASE_OUTCOME_UNKNOWN' : 'DATABASE_UNAVAILABLE'
        throw databaseError(code, { retryAfterSeconds: 2 }, { cause })
      }
    }
  }

  // Undefined when another rotation came between reading the pair and revealing it.
  async #attempt(
    request: { accountId: bigint; key: IdempotencyKey; clientSeed: string },
    offered: string[],
  ): Promise<string | undefined> {
    const { accountId, key, clientSeed } = request
    const active = await this.#activePair(accountId)
    const next = newServerSeed()
    const nextHash = hashServerSeed(next)
    offered.push(nextHash)
    const { rows } = await this.#o.channel.query({
      text: 'SELECT status, outcome FROM rotate_seeds($1, $2, $3, $4, $5, $6, $7, $8)',
      values: [
        accountId,
        key.toString('hex'),
        requestHash(clientSeed),
        active.pairId,
        active.serverSeed,
        clientSeed,
        nextHash,
        this.#o.keys.seal(next, nextHash),
      ],
    })
    const { status, outcome } = rows[0] as { status: string; outcome: string }
    if (status === 'stale') return undefined
    if (status === 'other_payload') throw ledgerError('IDEMPOTENCY_KEY_REUSED')
    // The rotation stands. A seat that cannot be read now is put right by the next spin.
    const seat = this.#o.seats.peek(accountId)
    if (seat) await this.#o.seats.refresh(seat).catch(() => undefined)
    return outcome
  }

  async #activePair(accountId: bigint): Promise<{ pairId: bigint; serverSeed: string }> {
    const [row] = await this.#o.database.query<{
      seed_pair_id: bigint
      sealed_seed: Buffer
      server_seed_hash: string
    }>('SELECT seed_pair_id, sealed_seed, server_seed_hash FROM read_seat($1)', [accountId])
    if (!row) throw gameError('GAME_ACCOUNT_UNKNOWN', { accountId })
    return { pairId: row.seed_pair_id, serverSeed: this.#o.keys.open(row.sealed_seed, row.server_seed_hash) }
  }
}

// A server that is short of something may have it again in a moment; until the deadline it is asked again.
function isTransient(error: unknown): boolean {
  if (error instanceof Failure) return error.code.startsWith('DATABASE_')
  return isPassing(error) || isReadOnly(error) || isDistress(error)
}
