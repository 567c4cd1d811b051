import pg from 'pg'
import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { drillError } from './errors.ts'

/** What the drill makes in a restored database lies in here. */
const schema = 'moonyetis_drill'

export interface RestoredCanary {
  sequence: bigint
  at: Date
  lsn: Lsn
}

async function withClient<T>(
  connection: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(connection)
  // The query in flight rejects with the same cause.
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}

/** Databases that one can connect to. */
async function databasesOf(connection: pg.ClientConfig): Promise<string[]> {
  return withClient(connection, async client => {
    const { rows } = await client.query<{ name: string }>(
      'SELECT datname AS name FROM pg_database WHERE datallowconn ORDER BY datname',
    )
    return rows.map(row => row.name)
  })
}

/**
 * Every B-tree against its table and every table by itself (F.1, amcheck). In words what was looked at.
 * @throws DRILL_FOUND
 */
export async function checkRelations(connection: pg.ClientConfig): Promise<string> {
  let [indexes, tables] = [0, 0]
  for (const database of await databasesOf(connection)) {
    const counts = await withClient({ ...connection, database }, async client => {
      if (!(await canCheck(client))) return undefined
      await client.query(
        `CREATE SCHEMA IF NOT EXISTS ${schema}; CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA ${schema}`,
      )
      return { indexes: await checkIndexes(client), tables: await checkTables(client) }
    })
    if (!counts) return 'left out: this PostgreSQL was built without amcheck'
    indexes += counts.indexes
    tables += counts.tables
  }
  return `${indexes} indexes and ${tables} tables are whole`
}

async function canCheck(client: pg.Client): Promise<boolean> {
  const { rowCount } = await client.query(
    "SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck' UNION SELECT 1 FROM pg_extension WHERE extname = 'amcheck'",
  )
  return rowCount !== 0
}

async function checkIndexes(client: pg.Client): Promise<number> {
  // An extension that was there already keeps its own schema.
  const at = await amcheckSchema(client)
  const { rowCount } = await client.query(`
    SELECT ${at}.bt_index_check(index => c.oid, heapallindexed => true)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
     WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid`)
  return rowCount ?? 0
}

async function checkTables(client: pg.Client): Promise<number> {
  const at = await amcheckSchema(client)
  const tables = `pg_class c JOIN pg_am a ON a.oid = c.relam
     WHERE a.amname = 'heap' AND c.relkind IN ('r', 't', 'm') AND c.relpersistence <> 't'`
  const { rows } = await client.query<{ tables: number; faults: string[] | null }>(`
    WITH heaps AS (SELECT c.oid FROM ${tables}),
         faults AS (SELECT h.oid::regclass || ' block ' || v.blkno || ': ' || v.msg AS fault
                      FROM heaps h, LATERAL ${at}.verify_heapam(h.oid) v LIMIT 5)
    SELECT (SELECT count(*)::int FROM heaps) AS tables, (SELECT array_agg(fault) FROM faults) AS faults`)
  const { tables: count = 0, faults = null } = rows[0] ?? {}
  if (faults) throw drillError('DRILL_FOUND', { reason: `amcheck found ${faults.join('; ')}` })
  return count
}

async function amcheckSchema(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ schema: string }>(
    "SELECT quote_ident(n.nspname) AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'",
  )
  return rows[0]?.schema ?? schema
}

/** Undefined when there is no canary at all. */
export async function readCanary(connection: pg.ClientConfig): Promise<RestoredCanary | undefined> {
  return withClient(connection, async client => {
    const { rows } = await client.query<{ sequence: string; at_ms: number; lsn: string }>(
      'SELECT sequence::text, extract(epoch FROM at)::float8 * 1000 AS at_ms, lsn::text FROM public.canary',
    )
    const [row] = rows
    return row && { sequence: BigInt(row.sequence), at: new Date(row.at_ms), lsn: parseLsn(row.lsn) ?? 0n }
  })
}

/** @throws DRILL_FOUND when the row does not come back */
export async function writeRow(connection: pg.ClientConfig, text: string): Promise<string> {
  const kept = await withClient(connection, async client => {
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${schema}; CREATE TABLE ${schema}.written (text text)`)
    await client.query(`INSERT INTO ${schema}.written VALUES ($1)`, [text])
    return client.query<{ text: string }>(`SELECT text FROM ${schema}.written`)
  })
  if (kept.rows[0]?.text !== text) throw drillError('DRILL_FOUND', { reason: 'a new row did not come back' })
  return 'a new row was written and read again'
}
