import { readdirSync } from 'node:fs'
import { callControl } from '#lib/control.ts'
import { commonFailure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import {
  type DatabaseRole,
  type DatabaseTarget,
  embeddedTarget,
  externalTargets,
} from '#postgres/client/target.ts'
import { socketDirectoryOf } from '#postgres/server/places.ts'
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
      port: await embeddedPort(o.home, socketDirectory),
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

// supervise knows its port; when it is just away, the socket file of the running server tells.
async function embeddedPort(home: Home, socketDirectory: string): Promise<number> {
  const status = await callControl<SuperviseStatus>({
    path: home.socket('supervise'),
    route: '/status',
  }).catch(() => undefined)
  if (status?.node.port) return status.node.port
  const sockets = readdirSync(socketDirectory).flatMap(name => /^\.s\.PGSQL\.(\d+)$/.exec(name)?.[1] ?? [])
  return Number(sockets[0] ?? 5432)
}
