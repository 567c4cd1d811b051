import { callControl } from '#lib/control.ts'
import { commonFailure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import {
  type DatabaseRole,
  type DatabaseTarget,
  embeddedTarget,
  externalTargets,
} from '#postgres/client/target.ts'
import { lastPort } from '#postgres/server/data-directory.ts'
import { dataDirectoryOf, socketDirectoryOf } from '#postgres/server/places.ts'
import { roleError } from '../errors.ts'
import type { SuperviseStatus } from '../supervise.ts'

/** Where this role finds the database. @throws USAGE when the topology is external and DATABASE_URL names no host. */
export async function findDatabase(o: {
  home: Home
  topology: 'embedded' | 'external'
  databaseUrl?: string
  user: DatabaseRole
}): Promise<DatabaseTarget> {
  if (o.topology === 'embedded') {
    const socketDirectory = socketDirectoryOf(o.home)
    return embeddedTarget({
      socketDirectory,
      port: await embeddedPort(o.home),
      user: o.user,
    })
  }
  const [target] = externalTargets(o.databaseUrl ?? '')
  if (!target) {
    throw commonFailure('USAGE', {
      reason: 'DATABASE_URL must look like postgresql://user:password@host:5432/moonyetis_slots',
    })
  }
  return target
}

// supervise knows its port. While PostgreSQL or supervise is down, the port of the last start is the one that comes back.
async function embeddedPort(home: Home): Promise<number> {
  const status = await callControl<SuperviseStatus>({
    path: home.socket('supervise'),
    route: '/status',
  }).catch(() => undefined)
  const port = status?.node.port ?? lastPort(dataDirectoryOf(home))
  if (port === undefined)
    throw roleError('ROLE_FAILED', { role: 'PostgreSQL', reason: neverStarted, log: home.logs })
  return port
}

const neverStarted = 'it was never started on this home; `npm start` does'
