import { randomBytes } from 'node:crypto'
import { drawStops, hashServerSeed } from '#game/draw.ts'
import { evaluate } from '#game/evaluate.ts'
import { gameMetrics } from '#game/metrics.ts'
import { Rotation } from '#game/rotation.ts'
import { Seats } from '#game/seats.ts'
import { newSeedKey, newServerSeed, SeedKeys } from '#game/seeds.ts'
import { Spins, type SpinsOptions } from '#game/spins.ts'
import { gameConfig, gameVersion } from '#game/version.ts'
import { type Clock, systemClock } from '#lib/clock.ts'
import { type Log, silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { Channel, type ChannelOptions } from '#postgres/client/channel.ts'
import { Database } from '#postgres/client/database.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import type { TestDatabase } from './database.ts'

/** What serve opens to play, without HTTP around it. */
export interface Table {
  spins: Spins
  rotation: Rotation
  seats: Seats
  channel: Channel
  app: Database
  close(): Promise<void>
}

export interface TableOptions {
  spins?: Partial<SpinsOptions>
  channel?: Partial<ChannelOptions>
  seatCache?: number
  /** Where the channels connect, when a proxy stands before the server. */
  channelTarget?: DatabaseTarget
  clock?: Clock
  log?: Log
}

/** One key for all tests of a process, as several servers of one installation share it. */
export const seedKeys = new SeedKeys({
  currentKid: 'k1',
  keys: new Map([['k1', Buffer.from(newSeedKey(), 'hex')]]),
})

interface After {
  after(work: () => Promise<void>): void
}

/** A server's worth of game on `database`, closed after the test. Two of them are two servers. */
export async function openTable(t: After, database: TestDatabase, o: TableOptions = {}): Promise<Table> {
  const { clock = systemClock, log = silentLog } = o
  const app = new Database({ target: database.target('app'), applicationName: 'test pool', log })
  const target = o.channelTarget ?? database.target('app')
  const newChannel = (applicationName: string) => new Channel({ target, applicationName, log, ...o.channel })
  const channel = newChannel('test settlement')
  const rotations = newChannel('test rotation')
  const seats = new Seats({ database: app, keys: seedKeys, ...(o.seatCache ? { most: o.seatCache } : {}) })
  const version = await registerGame(app)
  const spins = new Spins({
    channel,
    seats,
    gameVersion: () => version,
    clock,
    log,
    metrics: gameMetrics(createMetrics()),
    ...o.spins,
  })
  const rotation = new Rotation({ channel: rotations, database: app, seats, keys: seedKeys, clock })
  const close = async () => {
    await spins.close()
    for (const one of [channel, rotations, app]) await one.close()
  }
  t.after(close)
  return { spins, rotation, seats, channel, app, close }
}

async function registerGame(app: Database): Promise<number> {
  const { id } = await app.one<{ id: number }>('SELECT register_game_version($1, $2) AS id', [
    gameVersion,
    JSON.stringify(gameConfig),
  ])
  return id
}

/** A new account whose opening balance is a demo grant of that size. The active seed may be chosen. */
export async function openAccount(
  database: TestDatabase,
  o: { balance?: bigint; serverSeed?: string } = {},
): Promise<bigint> {
  const balance = o.balance ?? 1_000_000n
  const [row] = await database.query<{ id: bigint }>(
    `WITH player AS (INSERT INTO players (kind) VALUES ('demo') RETURNING id)
     SELECT open_account(id, $1, $2, $3, $4) AS id FROM player`,
    [...sealedSeed(o.serverSeed), ...sealedSeed()],
  )
  const { id } = row as { id: bigint }
  if (balance > 0n) await grant(database, id, balance)
  return id
}

/** Credits chips as a demo grant does. */
async function grant(database: TestDatabase, accountId: bigint, amount: bigint): Promise<void> {
  await database.query(
    `WITH credited AS (UPDATE accounts SET balance = balance + $2 WHERE id = $1 RETURNING id)
     INSERT INTO postings (movement_id, source, destination, amount, kind)
     SELECT nextval('movement_ids'), 2, id, $2, 3 FROM credited`,
    [accountId, amount],
  )
}

/** A server seed's commitment and its sealed form, as the functions of the database take them. */
export function sealedSeed(serverSeed = newServerSeed()): [hash: string, sealed: Buffer] {
  const hash = hashServerSeed(serverSeed)
  return [hash, seedKeys.seal(serverSeed, hash)]
}

/** A fresh server seed whose first payouts on `moonyetis`, at one chip on one line, fit `wanted`. */
export function seedWhere(wanted: (payout: number, nonce: number) => boolean, spins: number): string {
  for (;;) {
    const serverSeed = newServerSeed()
    const payouts = Array.from({ length: spins }, (_, nonce) => {
      const stops = drawStops({ serverSeed, clientSeed: 'moonyetis', nonce })
      return evaluate({ stops, lines: 1, stakePerLine: 1 })
    })
    if (payouts.every(wanted)) return serverSeed
  }
}

export function newKey(): Buffer {
  return randomBytes(16)
}
