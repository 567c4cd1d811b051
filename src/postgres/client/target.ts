import type { ClientConfig } from 'pg'
import pg from 'pg'

/** Where a database is and who connects: what pg's Client and Pool take. */
export interface DatabaseTarget {
  /** A host name, or a directory that holds the server's unix socket. */
  host: string
  port: number
  database: string
  user: string
  password?: string
  ssl?: ClientConfig['ssl']
}

export const databaseName = 'moonyetis_slots'

/** Database roles, least privilege first; what each may do is in migrations/0007_grants.sql. */
export type DatabaseRole = 'moonyetis_app' | 'moonyetis_monitor' | 'moonyetis_owner' | 'moonyetis_replication'

/** The embedded server through its unix socket, where PostgreSQL checks the operating-system user (peer). */
export function embeddedTarget(o: {
  socketDirectory: string
  port: number
  user: DatabaseRole
}): DatabaseTarget {
  return { host: o.socketDirectory, port: o.port, database: databaseName, user: o.user }
}

/**
 * One target per host of a libpq connection URI (postgresql://user:password@a:5432,b:5433/name?sslmode=require).
 * sslmode verify-full checks certificate and name; require encrypts only, as in libpq.
 */
export function externalTargets(url: string): DatabaseTarget[] {
  const match = /^postgres(?:ql)?:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^/?]+)\/([^?]+)(?:\?(.*))?$/.exec(url)
  if (!match) return []
  const [, user = '', password, hosts = '', database = '', query = ''] = match
  const sslmode = new URLSearchParams(query).get('sslmode')
  return hosts.split(',').map(host => {
    const [name = '', port = '5432'] = splitPort(host)
    return {
      host: decodeURIComponent(name),
      port: Number(port),
      database: decodeURIComponent(database),
      user: decodeURIComponent(user),
      ...(password === undefined ? {} : { password: decodeURIComponent(password) }),
      ...(sslOf(sslmode) === undefined ? {} : { ssl: sslOf(sslmode) }),
    }
  })
}

function splitPort(host: string): string[] {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(host)
  if (bracketed) return [bracketed[1] as string, bracketed[2] ?? '5432']
  return host.split(':')
}

function sslOf(mode: string | null): ClientConfig['ssl'] {
  if (mode === null || mode === 'disable' || mode === 'prefer' || mode === 'allow') return undefined
  return mode === 'require' ? { rejectUnauthorized: false } : { rejectUnauthorized: true }
}

const int8 = 20
const numeric = 1700
const date = 1082

/** Parsers that keep money whole: bigint columns become bigint, dates stay text; all else as pg does by default. */
export const exactTypes: ClientConfig['types'] = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (format !== 'binary') {
      if (oid === int8) return BigInt
      if (oid === date || oid === numeric) return String
    }
    // biome-ignore lint/suspicious/noExplicitAny: pg's own signature has it
    return pg.types.getTypeParser(oid, format as any)
  },
}
