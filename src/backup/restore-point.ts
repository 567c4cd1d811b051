import pg from 'pg'
import type { Clock } from '#lib/clock.ts'
import { formatLsn, parseLsn } from '#lib/lsn.ts'
import { databaseError } from '#postgres/client/errors.ts'
import { backupError } from './errors.ts'
import { layout } from './layout.ts'
import { formatVersion, type RestorePoint } from './model.ts'
import type { Repository } from './repository.ts'

/** What pg_create_restore_point takes, and a key of a repository: at most 63 characters. */
const nameText = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/**
 * Names this moment, in the log and in the repository, so that a restore can go exactly there. A name is given once.
 * @throws BACKUP_NAME_INVALID, BACKUP_NAME_TAKEN
 */
export async function createRestorePoint(o: {
  target: pg.ClientConfig
  repository: Repository
  name: string
  clock: Clock
}): Promise<RestorePoint> {
  const { repository, name, clock } = o
  if (!nameText.test(name)) throw backupError('BACKUP_NAME_INVALID', { name })
  // PostgreSQL takes a name twice, and a restore would stop at the first: refused before the log has it.
  if (await repository.storage.head(layout.point(name))) throw backupError('BACKUP_NAME_TAKEN', { name })
  const facts = await markLog(o.target, name)
  const point: RestorePoint = {
    format: formatVersion,
    repositoryId: repository.id,
    name,
    ...facts,
    at: clock.now().toISOString(),
  }
  if (!(await repository.writeSigned(layout.point(name), point)))
    throw backupError('BACKUP_NAME_TAKEN', { name })
  return point
}

async function markLog(
  target: pg.ClientConfig,
  name: string,
): Promise<Pick<RestorePoint, 'systemIdentifier' | 'timeline' | 'lsn'>> {
  const client = new pg.Client({
    ...target,
    application_name: 'moonyetis restore point',
    connectionTimeoutMillis: 5_000,
  })
  client.on('error', () => {})
  try {
    await client.connect().catch(error => {
      throw databaseError('DATABASE_UNAVAILABLE', {}, { cause: error })
    })
    const { rows } = await client.query('SELECT pg_create_restore_point($1)::text AS lsn', [name])
    // The file name of a position begins with its timeline, which is what the control data may tell only to some roles.
    const { rows: facts } = await client.query(
      `SELECT left(pg_walfile_name($1::pg_lsn), 8) AS timeline,
              (SELECT system_identifier::text FROM pg_control_system()) AS system`,
      [rows[0].lsn],
    )
    const lsn = formatLsn(parseLsn(String(rows[0].lsn)) ?? 0n)
    return {
      systemIdentifier: String(facts[0].system),
      timeline: Number.parseInt(facts[0].timeline, 16),
      lsn,
    }
  } finally {
    await client.end().catch(() => {})
  }
}
