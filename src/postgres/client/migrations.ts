import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import type { Log } from '#lib/log.ts'
import { isConnectionTrouble } from './database.ts'
import { databaseError } from './errors.ts'

/** The schema versions that this program works with; `serve` refuses others. */
export const schemaRange = { oldest: 9, newest: 9 } as const

export interface Migration {
  version: number
  /** File name, such as 0001_ledger.sql. */
  name: string
  sql: string
  checksum: string
}

/** Reads a folder of NNNN_name.sql files, in order. @throws MIGRATION_INVALID on a gap, a twin or a strange name. */
export function readMigrations(directory: string): Migration[] {
  const names = readdirSync(directory)
    .filter(name => name.endsWith('.sql'))
    .sort()
  return names.map((name, index) => {
    const version = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1])
    if (version !== index + 1) {
      throw databaseError('MIGRATION_INVALID', {
        problem: `${name} stands where number ${index + 1} is expected.`,
      })
    }
    const sql = readFileSync(join(directory, name), 'utf8')
    return { version, name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
  })
}

export interface MigrateOptions {
  /** As the owner of the schema. */
  connection: pg.ClientConfig
  directory: string
  log: Log
  /** How long another runner may take. */
  waitMs?: number
}

/**
 * Applies what is missing, each migration in its own transaction, one runner at a time (advisory lock). A migration
 * waits at most 5 s for a table lock, so that it never stands in front of the players.
 * @throws MIGRATION_INVALID, MIGRATION_FAILED, MIGRATION_RUNNING, DATABASE_UNAVAILABLE
 */
export async function migrate(o: MigrateOptions): Promise<{ applied: string[]; version: number }> {
  const migrations = readMigrations(o.directory)
  return withOwnClient(o.connection, async client => {
    await waitForOthers(client, o.waitMs ?? 60_000)
    await client.query("SET lock_timeout = '5s'")
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`)
    const known = await appliedMigrations(client)
    refuseChanged(migrations, known)
    const missing = migrations.filter(migration => !known.has(migration.version))
    for (const migration of missing) await apply(client, migration, o.log)
    const version = Math.max(0, ...known.keys(), ...missing.map(migration => migration.version))
    return { applied: missing.map(migration => migration.name), version }
  })
}

/** Runs `work` on a connection of its own. @throws DATABASE_UNAVAILABLE when it cannot be had or is lost. */
export async function withOwnClient<T>(
  connection: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ ...connection, application_name: 'moonyetis migrate' })
  // What is awaited rejects as well; an event that nobody hears would end the process.
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await work(client)
  } catch (error) {
    if (!isConnectionTrouble(error)) throw error
    throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause: error })
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function waitForOthers(client: pg.Client, waitMs: number): Promise<void> {
  await client.query(`SET lock_timeout = ${waitMs}`)
  try {
    await client.query("SELECT pg_advisory_lock(hashtext('moonyetis.migrate'))")
  } catch (cause) {
    if ((cause as { code?: string }).code !== lockNotAvailable) throw cause
    throw databaseError('MIGRATION_RUNNING', { waitedSeconds: waitMs / 1000 }, { cause })
  }
}

const lockNotAvailable = '55P03'

/** @throws SCHEMA_UNFIT unless the database's schema is one that this program works with. */
export function checkSchema(version: number): void {
  if (version < schemaRange.oldest) {
    const problem = `The database has schema ${version}; this program needs at least ${schemaRange.oldest}.`
    throw databaseError('SCHEMA_UNFIT', { problem, mend: 'Run `moonyetis migrate`.' })
  }
  if (version > schemaRange.newest) {
    const problem = `The database has schema ${version}; this program knows up to ${schemaRange.newest}.`
    throw databaseError('SCHEMA_UNFIT', { problem, mend: 'Start the newer program that migrated it.' })
  }
}

async function appliedMigrations(
  client: pg.Client,
): Promise<Map<number, { name: string; checksum: string }>> {
  const { rows } = await client.query(
    'SELECT version, name, checksum FROM schema_migrations ORDER BY version',
  )
  return new Map(rows.map(row => [row.version, { name: row.name, checksum: row.checksum }]))
}

function refuseChanged(
  migrations: Migration[],
  known: Map<number, { name: string; checksum: string }>,
): void {
  for (const { version, name, checksum } of migrations) {
    const applied = known.get(version)
    if (applied && applied.checksum !== checksum) {
      throw databaseError('MIGRATION_INVALID', {
        problem: `${name} was applied as another text (${applied.name}).`,
      })
    }
  }
}

async function apply(client: pg.Client, migration: Migration, log: Log): Promise<void> {
  try {
    await client.query('BEGIN')
    await client.query(migration.sql)
    await client.query('INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)', [
      migration.version,
      migration.name,
      migration.checksum,
    ])
    await client.query('COMMIT')
    log.info({ migration: migration.name }, 'migration applied')
  } catch (cause) {
    await client.query('ROLLBACK').catch(() => undefined)
    // Whether its commit arrived is seen at the next run.
    if (isConnectionTrouble(cause)) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw databaseError('MIGRATION_FAILED', { name: migration.name, reason }, { cause })
  }
}
