import { randomBytes, randomUUID } from 'node:crypto'
import pg from 'pg'
import { drawStops } from '#game/draw.ts'
import { evaluate } from '#game/evaluate.ts'
import { gameMetrics } from '#game/metrics.ts'
import { Seats } from '#game/seats.ts'
import { Spins } from '#game/spins.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { Channel } from '#postgres/client/channel.ts'
import { exactTypes } from '#postgres/client/target.ts'
import type { BenchPlayer, World } from './world.ts'

/** One way to settle a durable spin. */
export interface Design {
  /** `hot` takes one account for all. */
  spin(hot: boolean): Promise<void>
  close(): Promise<void>
}

const stakePerLine = 1
const lines = 10

/** Ours, called in process: seats, draw, batcher, settlement, rendered answer. */
export async function ours(world: World): Promise<Design> {
  const channel = new Channel({
    target: world.database.target('app'),
    applicationName: 'bench ours',
    log: silentLog,
  })
  await channel.connect()
  const seats = new Seats({ database: world.app, keys: world.keys })
  for (const { accountId } of world.players.ours) await seats.get(accountId)
  const spins = new Spins({
    channel,
    seats,
    gameVersion: () => world.gameVersionId,
    clock: systemClock,
    log: silentLog,
    metrics: gameMetrics(createMetrics()),
  })
  return {
    async spin(hot) {
      const { accountId } = pick(world.players.ours, hot)
      const result = await spins.spin({ accountId, key: randomBytes(16), stakePerLine, lines })
      if (result.kind !== 'settled') throw new Error('a bench spin was refused')
    },
    async close() {
      await spins.close()
      await channel.close()
    },
  }
}

/** One call of the settlement function per spin, on one connection, without our server around it. */
export async function functionCall(world: World): Promise<Design> {
  const client = new pg.Client({ ...world.database.target('app'), types: exactTypes })
  await client.connect()
  const seats = new Map<bigint, { pair: bigint; nonce: bigint }>()
  for (const { accountId } of world.players.function) {
    const { rows } = await client.query('SELECT seed_pair_id, next_nonce FROM read_seat($1)', [accountId])
    seats.set(accountId, { pair: rows[0].seed_pair_id, nonce: rows[0].next_nonce })
  }
  const serverSeed = randomBytes(32).toString('hex')
  return {
    async spin(hot) {
      const { accountId } = pick(world.players.function, hot)
      const seat = seats.get(accountId) as { pair: bigint; nonce: bigint }
      const stops = drawStops({ serverSeed, clientSeed: 'moonyetis', nonce: seat.nonce })
      const payout = evaluate({ stops, lines, stakePerLine })
      const { rows } = await client.query({
        name: 'settle_spin',
        text: 'SELECT status, round_id, balance FROM settle_spin($1, $2, $3, $4, $5, $6, $7, $8, $9::smallint)',
        values: [
          accountId,
          seat.pair,
          seat.nonce,
          randomUUID(),
          stakePerLine,
          lines,
          stops,
          payout,
          world.gameVersionId,
        ],
      })
      if (rows[0].status !== 'settled') throw new Error(`a bench spin was ${rows[0].status}`)
      seat.nonce++
    },
    close: () => client.end(),
  }
}

/** What a team writes first: a transaction of six statements per spin over a pool of 20. */
export async function naive(world: World): Promise<Design> {
  await world.database.query(naiveSchema)
  await world.database.query('VACUUM ANALYZE naive_accounts')
  const pool = new pg.Pool({
    ...world.database.target('superuser'),
    max: 20,
    idleTimeoutMillis: 0,
    types: exactTypes,
  })
  const serverSeed = randomBytes(32).toString('hex')
  return {
    async spin(hot) {
      const account = hot ? 1 : 1 + Math.floor(Math.random() * naiveAccounts)
      const client = await pool.connect()
      try {
        await naiveSpin(client, account, serverSeed)
      } finally {
        client.release()
      }
    },
    close: () => pool.end(),
  }
}

const naiveAccounts = 10_000
const naiveSchema = `
  DROP TABLE IF EXISTS naive_accounts, naive_rounds, naive_postings;
  CREATE TABLE naive_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0), nonce bigint NOT NULL DEFAULT 0);
  CREATE TABLE naive_rounds (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id bigint NOT NULL REFERENCES naive_accounts,
    key uuid NOT NULL, stake bigint NOT NULL, payout bigint NOT NULL, nonce bigint NOT NULL, stops integer NOT NULL,
    balance_after bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (account_id, key));
  CREATE TABLE naive_postings (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, round_id bigint NOT NULL REFERENCES naive_rounds,
    account_id bigint NOT NULL, amount bigint NOT NULL);
  INSERT INTO naive_accounts SELECT g, 1000000000 FROM generate_series(1, ${naiveAccounts}) g`

async function naiveSpin(client: pg.PoolClient, account: number, serverSeed: string): Promise<void> {
  const stake = stakePerLine * lines
  await client.query('BEGIN')
  const { rows } = await client.query({
    name: 'n1',
    text: 'SELECT balance, nonce FROM naive_accounts WHERE id = $1 FOR UPDATE',
    values: [account],
  })
  const { balance, nonce } = rows[0] as { balance: bigint; nonce: bigint }
  const stops = drawStops({ serverSeed, clientSeed: 'moonyetis', nonce })
  const payout = evaluate({ stops, lines, stakePerLine })
  const after = balance - BigInt(stake) + BigInt(payout)
  await client.query({
    name: 'n2',
    text: 'UPDATE naive_accounts SET balance = $2, nonce = nonce + 1 WHERE id = $1',
    values: [account, after],
  })
  const round = await client.query({
    name: 'n3',
    text: `INSERT INTO naive_rounds (account_id, key, stake, payout, nonce, stops, balance_after)
           VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
    values: [account, randomUUID(), stake, payout, nonce, stops, after],
  })
  await client.query({
    name: 'n4',
    text: 'INSERT INTO naive_postings (round_id, account_id, amount) VALUES ($1, $2, $3), ($1, 0, $4)',
    values: [round.rows[0].id, account, payout - stake, stake - payout],
  })
  await client.query('COMMIT')
}

function pick(players: readonly BenchPlayer[], hot: boolean): BenchPlayer {
  const index = hot ? 0 : Math.floor(Math.random() * players.length)
  return players[index] as BenchPlayer
}
