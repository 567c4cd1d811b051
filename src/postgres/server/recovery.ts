import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { writeDurably } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { databaseName, renderAccess, roleNames, superuserName } from './access.ts'
import { withoutWaiting } from './bootstrap.ts'
import type { PostgresNode } from './node.ts'
import { type RecoveredFacts, readRecoveredFile, removeRecoveredFile } from './recovered-file.ts'

/**
 * After a restore: begins the recovery that the file in the data directory stands for, then lets the application in and
 * removes the file. To be called on a migrated, writable database at every start; safe to be killed in, since the file
 * goes last and its id begins one recovery only. Returns its facts when there was one.
 */
export async function beginRecovery(options: {
  node: PostgresNode
  log: Log
}): Promise<RecoveredFacts | undefined> {
  const { node, log } = options
  const facts = readRecoveredFile(node.dataDirectory)
  if (!facts) return undefined
  const begun = await recordRecovery(node, facts)
  await letApplicationIn(node)
  log.warn(
    { recovery: facts, begun },
    'the database was restored: no chips move before its seeds are retired',
  )
  return facts
}

/**
 * Whoever changes a setting meanwhile writes pg_hba.conf too, and as long as the file of the restore is there he keeps
 * the application out. So it is looked at again, and nothing else runs between that look and the end of the file.
 */
async function letApplicationIn(node: PostgresNode): Promise<void> {
  const path = join(node.dataDirectory, 'pg_hba.conf')
  const open = renderAccess()
  do {
    writeDurably(path, open)
    await query(node, { user: superuserName, database: 'postgres' }, 'SELECT pg_reload_conf()')
  } while (readFileSync(path, 'utf8') !== open)
  removeRecoveredFile(node.dataDirectory)
}

async function recordRecovery(node: PostgresNode, facts: RecoveredFacts): Promise<boolean> {
  const { id, cause, target, ...rest } = facts
  const [row] = await query<{ begun: boolean }>(
    node,
    { user: roleNames.owner, database: databaseName },
    'SELECT begin_recovery($1, $2, $3, $4) AS begun',
    [id, cause, target, JSON.stringify(rest)],
  )
  return row?.begun ?? false
}

async function query<T extends pg.QueryResultRow>(
  node: PostgresNode,
  as: { user: string; database: string },
  text: string,
  values: unknown[] = [],
): Promise<T[]> {
  const client = new pg.Client({ ...node.connection(as), options: withoutWaiting })
  // The query in flight rejects with the same cause.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<T>(text, values)).rows
  } finally {
    await client.end().catch(() => {})
  }
}
