import type pg from 'pg'
import type { Home } from '#lib/home.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import { roleNames } from '#postgres/server/access.ts'
import { findDatabase } from '../serve/database-target.ts'
import type { BackupValues } from './open.ts'

/**
 * Where the archive finds PostgreSQL now, as the replication role. External: the user of backup.databaseUrl, else of
 * DATABASE_URL, who needs REPLICATION and the grants of docs/external-postgresql.sql.
 */
export async function replicationTarget(home: Home, values: BackupValues): Promise<DatabaseTarget> {
  const { databaseUrl = values.installation.databaseUrl } = values.backup
  return findDatabase({
    home,
    topology: values.postgres.topology,
    user: roleNames.replication,
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
  })
}

/** The same server for SQL. */
export async function sqlTarget(home: Home, values: BackupValues): Promise<pg.ClientConfig> {
  return replicationTarget(home, values)
}

/** The same server as the owner of the schema, who may read every table. */
export async function ownerTarget(home: Home, values: BackupValues): Promise<DatabaseTarget> {
  const { databaseUrl } = values.installation
  return findDatabase({
    home,
    topology: values.postgres.topology,
    user: roleNames.owner,
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
  })
}
