import { randomBytes } from 'node:crypto'
import { hashServerSeed } from '#game/draw.ts'
import { newServerSeed, SeedKeys } from '#game/seeds.ts'
import { gameConfig, gameVersion } from '#game/version.ts'
import { hashToken, newPlayerToken } from '#identity/tokens.ts'
import { silentLog } from '#lib/log.ts'
import { Database } from '#postgres/client/database.ts'
import { startServer, type TestDatabase, type TestServer } from '#test/database.ts'

export interface BenchPlayer {
  accountId: bigint
  token: string
}

/** One PostgreSQL with the settings of production, one migrated database, its players and the key of their seeds. */
export interface World {
  server: TestServer
  database: TestDatabase
  app: Database
  keys: SeedKeys
  /** Hex, for a server started as its own process. */
  keyHex: string
  gameVersionId: number
  /** Each design plays its own accounts: one that moves another's nonces makes it draw again. Equal in number, because
   * fewer accounts mean fewer pages. */
  players: Record<'ours' | 'function' | 'http', BenchPlayer[]>
  close(): Promise<void>
}

// The server of the tests runs without fsync; here durability is what is measured.
const durable = { fsync: true, synchronous_commit: 'on', full_page_writes: true }

export async function openWorld(playerCount: number): Promise<World> {
  const server = await startServer({ settings: { shared_buffers: '512MB', ...durable } })
  const database = await server.createDatabase('simulated')
  await refuseUndurable(database)
  const app = new Database({ target: database.target('app'), applicationName: 'bench', log: silentLog })
  const keyHex = randomBytes(32).toString('hex')
  const keys = new SeedKeys({ currentKid: 'k1', keys: new Map([['k1', Buffer.from(keyHex, 'hex')]]) })
  const { id } = await app.one<{ id: number }>('SELECT register_game_version($1, $2) AS id', [
    gameVersion,
    JSON.stringify(gameConfig),
  ])
  const opened: BenchPlayer[] = []
  const workers = Array.from({ length: 8 }, async () => {
    while (opened.length < playerCount) opened.push(await openPlayer(app, keys))
  })
  await Promise.all(workers)
  const third = Math.floor(opened.length / 3)
  const players = {
    ours: opened.slice(0, third),
    function: opened.slice(third, 2 * third),
    http: opened.slice(2 * third),
  }
  await database.query('VACUUM ANALYZE')
  const close = async () => {
    await app.close()
    await database.close()
    await server.stop()
  }
  return { server, database, app, keys, keyHex, gameVersionId: id, players, close }
}

async function openPlayer(app: Database, keys: SeedKeys): Promise<BenchPlayer> {
  const token = newPlayerToken()
  const seed = () => {
    const serverSeed = newServerSeed()
    const hash = hashServerSeed(serverSeed)
    return [hash, keys.seal(serverSeed, hash)]
  }
  const { account_id } = await app.one<{ account_id: bigint }>(
    "SELECT account_id FROM open_demo_player($1, '1 day', $2, $3, $4, $5)",
    [Buffer.from(hashToken(token), 'hex'), ...seed(), ...seed()],
  )
  return { accountId: account_id, token }
}

async function refuseUndurable(database: TestDatabase): Promise<void> {
  const rows = await database.query<{ name: string; setting: string }>(
    "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')",
  )
  const off = rows.filter(row => row.setting !== 'on').map(row => row.name)
  if (rows.length !== 3 || off.length > 0) throw new Error(`the bench needs these on: ${off.join(', ')}`)
}
