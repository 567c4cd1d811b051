import pg from 'pg'
import type { Log } from '#lib/log.ts'
import { databaseName, roleNames, superuserName } from './access.ts'
import type { PostgresNode } from './node.ts'
import type { Passwords } from './passwords.ts'

/** What of a role is set by this program; the rest is left to PostgreSQL's defaults. */
export interface RoleState {
  name: string
  login: boolean
  replication: boolean
  superuser: boolean
  createRole: boolean
  createDatabase: boolean
  memberOf: readonly string[]
}

const plain = { login: true, replication: false, superuser: false, createRole: false, createDatabase: false }

/** Least privilege: nobody but postgres is a superuser; what each may do with tables is granted by the migrations. */
export const wantedRoles: readonly RoleState[] = [
  { ...plain, name: roleNames.owner, memberOf: [] },
  { ...plain, name: roleNames.app, memberOf: [] },
  { ...plain, name: roleNames.monitor, memberOf: ['pg_monitor'] },
  { ...plain, name: roleNames.replication, replication: true, memberOf: [] },
  { ...plain, name: roleNames.user, memberOf: ['pg_read_all_stats'] },
]

export interface ServerIdentity {
  /** Digits; one per initdb. */
  systemIdentifier: string
  timeline: number
}

/**
 * Makes roles, passwords and the database what they should be; changes nothing that is right already, so it is cheap
 * at every start and safe to be killed in. Waits for no synchronous standby. Returns who the server is.
 */
export async function bootstrapDatabase(options: {
  node: PostgresNode
  passwords: Passwords
  log: Log
}): Promise<ServerIdentity> {
  const { node, passwords, log } = options
  return withClient(node, 'postgres', async client => {
    const existing = await readRoles(client)
    for (const statement of roleStatements(existing, wantedRoles)) await client.query(statement)
    await ensurePassword(client, node, {
      role: roleNames.user,
      password: passwords.user,
      database: databaseName,
    })
    await ensurePassword(client, node, {
      role: roleNames.replication,
      password: passwords.replication,
      database: 'replication',
    })
    if (await ensureDatabase(client))
      log.info({ node: node.name, database: databaseName }, 'database created')
    await withClient(node, databaseName, async inside => {
      await closeDatabase(inside)
      await letReplicationIn(inside)
    })
    return readIdentity(client)
  })
}

/** Statements that turn what exists into what is wanted; none when nothing differs. */
export function roleStatements(existing: readonly RoleState[], wanted: readonly RoleState[]): string[] {
  return wanted.flatMap(role => {
    const found = existing.find(one => one.name === role.name)
    const statements: string[] = []
    if (!found) statements.push(`CREATE ROLE ${role.name} ${attributes(role)}`)
    else if (attributes(found) !== attributes(role))
      statements.push(`ALTER ROLE ${role.name} ${attributes(role)}`)
    const missing = role.memberOf.filter(group => !found?.memberOf.includes(group))
    return [...statements, ...missing.map(group => `GRANT ${group} TO ${role.name}`)]
  })
}

function attributes(role: RoleState): string {
  const flag = (on: boolean, name: string) => (on ? name : `NO${name}`)
  return [
    flag(role.login, 'LOGIN'),
    flag(role.superuser, 'SUPERUSER'),
    flag(role.createDatabase, 'CREATEDB'),
    flag(role.createRole, 'CREATEROLE'),
    flag(role.replication, 'REPLICATION'),
  ].join(' ')
}

async function readRoles(client: pg.Client): Promise<RoleState[]> {
  const { rows } = await client.query<RoleState>(`
    SELECT r.rolname AS name, r.rolcanlogin AS login, r.rolreplication AS replication, r.rolsuper AS superuser,
           r.rolcreaterole AS "createRole", r.rolcreatedb AS "createDatabase",
           ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                  WHERE m.member = r.oid) AS "memberOf"
      FROM pg_roles r
     WHERE r.rolname LIKE 'moonyetis\\_%'`)
  return rows
}

/** PostgreSQL itself tells whether the stored verifier fits the password, so an unchanged one is not written again. */
async function ensurePassword(
  client: pg.Client,
  node: PostgresNode,
  options: { role: string; password: string; database: string },
): Promise<void> {
  const { role, password } = options
  const { rows } = await client.query<{ given: boolean }>(
    'SELECT rolpassword IS NOT NULL AS given FROM pg_authid WHERE rolname = $1',
    [role],
  )
  if (rows[0]?.given && (await fits(node, options))) return
  // A password is part of the statement's text: keep it out of logs and of pg_stat_activity.
  await client.query('BEGIN')
  await client.query(`
    SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1;
    SET LOCAL log_min_error_statement = 'panic'; SET LOCAL track_activities = off`)
  await client.query(`ALTER ROLE ${role} PASSWORD ${client.escapeLiteral(password)}`)
  await client.query('COMMIT')
}

async function fits(
  node: PostgresNode,
  options: { role: string; password: string; database: string },
): Promise<boolean> {
  const { role: user, password, database } = options
  const asReplication = database === 'replication'
  const connection = {
    ...node.connection({ user, database: asReplication ? 'postgres' : database }),
    host: '127.0.0.1',
    password,
  }
  // pg's types do not know the replication parameter that it passes on.
  const probe = new pg.Client({
    ...connection,
    ...(asReplication ? { replication: 'true' } : {}),
  } as pg.ClientConfig)
  probe.on('error', () => {})
  try {
    await probe.connect()
    return true
  } catch (error) {
    // 28P01: the password is wrong; 3D000: the database is not there yet, which is told only after the password fits.
    const { code } = error as { code?: string }
    if (code === '3D000') return true
    if (code === '28P01') return false
    throw error
  } finally {
    await probe.end().catch(() => {})
  }
}

async function ensureDatabase(client: pg.Client): Promise<boolean> {
  const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [databaseName])
  if (found.rowCount) return false
  await client.query(`CREATE DATABASE ${databaseName} OWNER ${roleNames.owner} TEMPLATE template0`)
  return true
}

/** One transaction, so that any one of its effects tells whether all are there. */
async function closeDatabase(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ open: boolean }>(`
    SELECT has_database_privilege('public', current_database(), 'CONNECT')
        OR has_function_privilege('public', 'pg_catalog.lo_create(oid)', 'EXECUTE') AS open`)
  if (rows[0]?.open) await client.query(databaseStatements)
}

/** The WAL archive writes its canary and its restore points; grants on functions of pg_catalog are not in a migration. */
async function letReplicationIn(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ missing: boolean }>(`
    SELECT NOT has_database_privilege('${replication}', current_database(), 'CONNECT')
        OR NOT has_function_privilege('${replication}', '${restorePoint}', 'EXECUTE') AS missing`)
  if (!rows[0]?.missing) return
  await client.query(`
    GRANT CONNECT ON DATABASE ${databaseName} TO ${replication};
    GRANT EXECUTE ON FUNCTION ${restorePoint} TO ${replication}`)
}

const restorePoint = 'pg_catalog.pg_create_restore_point(text)'
const { owner, app, monitor, replication, user } = roleNames
const databaseStatements = `
  REVOKE ALL ON DATABASE ${databaseName} FROM PUBLIC;
  GRANT CONNECT ON DATABASE ${databaseName} TO ${owner}, ${app}, ${monitor}, ${user};
  ALTER SCHEMA public OWNER TO ${owner};
  REVOKE CREATE ON SCHEMA public FROM PUBLIC;
  REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
  REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
  -- Who may only read may make no large object, and take no advisory lock: all play stands still behind one of them.
  DO $$
  DECLARE one regprocedure;
  BEGIN
    FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
                AND proname ~ '^(lo_creat|lo_create|lo_from_bytea|pg_(try_)?advisory_.*)$' LOOP
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one);
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ${owner}', one);
    END LOOP;
  END $$`

async function readIdentity(client: pg.Client): Promise<ServerIdentity> {
  const { rows } = await client.query<ServerIdentity>(`
    SELECT s.system_identifier::text AS "systemIdentifier", c.timeline_id AS timeline
      FROM pg_control_system() s, pg_control_checkpoint() c`)
  return rows[0] as ServerIdentity
}

/**
 * Connection option of the sessions that prepare a database: their commits wait for the local disk alone. A synchronous
 * set whose members are away must not keep the very program from starting that tells about it. It is safe, because what
 * they write is made anew from program and home at each start until it is there, and because WAL is one stream: whatever
 * is acknowledged later is acknowledged with everything before it.
 */
export const withoutWaiting = '-c synchronous_commit=local'

async function withClient<T>(
  node: PostgresNode,
  database: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const connection = node.connection({ user: superuserName, database })
  const client = new pg.Client({ ...connection, options: withoutWaiting })
  // The query in flight rejects with the same cause; without a listener the event would end the process.
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}
