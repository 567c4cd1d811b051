import { join } from 'node:path'
import { callControl } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { type Chain, recordChain } from '#postgres/client/installation.ts'
import { migrate } from '#postgres/client/migrations.ts'
import { embeddedTarget, externalTargets } from '#postgres/client/target.ts'
import { roleNames } from '#postgres/server/access.ts'
import { withoutWaiting } from '#postgres/server/bootstrap.ts'
import { roleError } from './errors.ts'
import type { SuperviseStatus } from './supervise.ts'

export interface MigrateOptions {
  home: Home
  programRoot: string
  /** Of an external database, as the owner of the schema; without it the embedded one of a running supervise. */
  databaseUrl?: string | undefined
  /** Written into a new database; another one in an old database is refused. */
  chain: Chain
  log: Log
}

/** Brings the schema up to date. Throws ROLE_NOT_RUNNING when the embedded database is not running, CHAIN_MISMATCH. */
export async function migrateNow(options: MigrateOptions): Promise<{ applied: string[]; version: number }> {
  const { home, log } = options
  const connection = options.databaseUrl ? external(options.databaseUrl) : await embedded(home)
  const result = await migrate({ connection, directory: join(options.programRoot, 'migrations'), log })
  await recordChain(connection, options.chain)
  return result
}

async function embedded(home: Home) {
  const { node } = await callControl<SuperviseStatus>({ path: home.socket('supervise'), route: '/status' })
  const { port, socketDirectory } = node
  if (!port || !socketDirectory)
    throw roleError('ROLE_FAILED', { role: 'supervise', reason: 'PostgreSQL is down', log: home.logs })
  // A schema change is no bet: it does not wait for an archive that is away.
  return { ...embeddedTarget({ port, socketDirectory, user: roleNames.owner }), options: withoutWaiting }
}

function external(url: string) {
  const [first] = externalTargets(url)
  if (!first) throw roleError('DATABASE_URL_INVALID')
  return first
}
