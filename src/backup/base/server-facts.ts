import pg from 'pg'
import { Failure } from '#lib/errors.ts'
import { databaseError } from '#postgres/client/errors.ts'
import type { ReplicationConnection } from '#postgres/wire/connection.ts'

/** What a restore needs or reports, and a standby must not have less of. */
const settingNames = [
  'server_version',
  'data_checksums',
  'block_size',
  'wal_block_size',
  'wal_segment_size',
  'wal_level',
  'max_connections',
  'max_worker_processes',
  'max_wal_senders',
  'max_prepared_transactions',
  'max_locks_per_transaction',
  'shared_preload_libraries',
  'timezone',
] as const

/** By name; what this version does not have or this role may not see is left out. */
export async function readSettings(connection: ReplicationConnection): Promise<Record<string, string>> {
  const settings: Record<string, string> = {}
  for (const name of settingNames) {
    try {
      settings[name] = await connection.show(name)
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'WIRE_REFUSED')) throw error
    }
  }
  return settings
}

const units: Record<string, number> = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 }

/** `16MB` as SHOW prints it. */
export function sizeInBytes(text: string): number {
  const [, digits, unit = 'B'] = /^(\d+)\s*(B|kB|MB|GB)?$/.exec(text) ?? []
  if (digits === undefined) throw new TypeError(`${text} is no size`)
  return Number(digits) * (units[unit] as number)
}

/** The clock that commit times are taken from. @throws DATABASE_UNAVAILABLE */
export async function databaseTime(config: pg.ClientConfig): Promise<Date> {
  const client = new pg.Client({ connectionTimeoutMillis: 10_000, ...config, query_timeout: 10_000 })
  // What is awaited rejects as well; an event that nobody hears would end the process.
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query<{ now: Date }>('SELECT clock_timestamp() AS now')).rows[0]?.now as Date
  } catch (cause) {
    throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 5 }, { cause })
  } finally {
    await client.end().catch(() => undefined)
  }
}
