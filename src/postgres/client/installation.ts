import type pg from 'pg'
import type { Database } from './database.ts'
import { databaseError } from './errors.ts'
import { checkSchema, withOwnClient } from './migrations.ts'

export type Chain = 'simulated' | 'mainnet'

/**
 * Writes down which chain a new database is for; a database that is already marked stays as it is.
 * @throws CHAIN_MISMATCH, DATABASE_UNAVAILABLE
 */
export async function recordChain(connection: pg.ClientConfig, chain: Chain): Promise<void> {
  await withOwnClient(connection, async client => {
    await client.query('INSERT INTO installation (chain) VALUES ($1) ON CONFLICT DO NOTHING', [chain])
    const { rows } = await client.query('SELECT chain FROM installation')
    refuseOtherChain(rows[0].chain, chain)
  })
}

/** What a server checks before it plays. @throws SCHEMA_UNFIT, CHAIN_MISMATCH, DATABASE_UNAVAILABLE */
export async function checkInstallation(database: Database, chain: Chain): Promise<void> {
  checkSchema(await schemaVersion(database))
  const [row] = await database.query<{ chain: Chain }>('SELECT chain FROM installation')
  if (!row) {
    const problem = 'The database is not marked with its chain.'
    throw databaseError('SCHEMA_UNFIT', { problem, mend: 'Run `moonyetis migrate`.' })
  }
  refuseOtherChain(row.chain, chain)
}

async function schemaVersion(database: Database): Promise<number> {
  const { present } = await database.one<{ present: boolean }>(
    "SELECT to_regclass('schema_migrations') IS NOT NULL AS present",
  )
  if (!present) return 0
  const { version } = await database.one<{ version: number | null }>(
    'SELECT max(version) AS version FROM schema_migrations',
  )
  return version ?? 0
}

function refuseOtherChain(recorded: Chain, configured: Chain): void {
  if (recorded !== configured) throw databaseError('CHAIN_MISMATCH', { recorded, configured })
}
