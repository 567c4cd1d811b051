import { databaseName } from '../client/target.ts'

/** Names that the rest of the program and people's psql rely on. */
export { databaseName }
export const superuserName = 'postgres'
export const roleNames = {
  owner: 'moonyetis_owner',
  app: 'moonyetis_app',
  monitor: 'moonyetis_monitor',
  replication: 'moonyetis_replication',
  user: 'moonyetis_user',
} as const

const mapName = 'moonyetis'
const loopback = ['127.0.0.1/32', '::1/128']

/**
 * pg_hba.conf: on the socket only our own operating-system users, as the roles of pg_ident.conf; on loopback only
 * people and replication, by password. Everything else finds no line and is refused. `closed` keeps the application
 * out: a restored database whose recovery was not begun would take spins that players have seen before.
 */
export function renderAccess(o: { closed?: boolean } = {}): string {
  const { owner, app, monitor, replication, user } = roleNames
  const ours = [owner, ...(o.closed ? [] : [app]), monitor, replication].join(',')
  return [
    '# Written by MoonYetis at each start.',
    `local all ${superuserName} peer map=${mapName}`,
    `local ${databaseName} ${ours} peer map=${mapName}`,
    `local replication ${superuserName},${replication} peer map=${mapName}`,
    ...loopback.map(address => `host ${databaseName} ${user} ${address} scram-sha-256`),
    ...loopback.map(address => `host ${databaseName} ${replication} ${address} scram-sha-256`),
    ...loopback.map(address => `host replication ${replication} ${address} scram-sha-256`),
    '',
  ].join('\n')
}

/** pg_ident.conf: which roles these operating-system users may be on the socket. */
export function renderIdentities(osUsers: readonly string[]): string {
  const { owner, app, monitor, replication } = roleNames
  const roles = [superuserName, owner, app, monitor, replication]
  const lines = [...new Set(osUsers)].flatMap(osUser =>
    roles.map(role => `${mapName} "${osUser.replaceAll('"', '""')}" ${role}`),
  )
  return ['# Written by MoonYetis at each start.', ...lines, ''].join('\n')
}
