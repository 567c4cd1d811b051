import { callControl } from '#lib/control.ts'
import { Failure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import type { SuperviseStatus } from './supervise.ts'
import type { UpStatus } from './up.ts'

/** One screen of truth; a part that does not answer is null. */
export interface Status {
  home: string
  up: UpStatus | null
  database: SuperviseStatus | null
  ready: boolean
}

export async function readStatus(home: Home): Promise<Status> {
  const [up, database] = await Promise.all([
    ask<UpStatus>(home.socket('up')),
    ask<SuperviseStatus>(home.socket('supervise')),
  ])
  return { home: home.root, up, database, ready: up?.state === 'ready' && database?.ready !== false }
}

export function statusText(status: Status): string {
  const { up, database } = status
  const lines = [
    `home      ${status.home}`,
    `state     ${up ? up.state : 'not running'}${up?.url ? ` at ${up.url}` : ''}`,
  ]
  for (const role of up?.roles ?? []) {
    lines.push(
      `${role.name.padEnd(9)} ${role.pid ? `pid ${role.pid}` : 'down'}, restarted ${role.restarts} times`,
    )
  }
  if (database) {
    const { port, version, pid } = database.node
    lines.push(`database  ${database.state}: ${database.reason}`)
    if (port) lines.push(`          PostgreSQL ${version} on 127.0.0.1:${port}, pid ${pid}`)
    if (database.synchronous) lines.push(`commits   ${commitsText(database.synchronous)}`)
  }
  return lines.join('\n')
}

function commitsText({ reason, outside }: NonNullable<SuperviseStatus['synchronous']>): string {
  const total = `${outside.windows} windows, ${Math.round(outside.totalSeconds)} s in all`
  if (outside.since) return `${reason}; not at recovery point zero since ${outside.since} (${total})`
  return outside.windows > 0 ? `${reason}; was outside before: ${total}` : reason
}

async function ask<T>(path: string): Promise<T | null> {
  try {
    return await callControl<T>({ path, route: '/status', timeoutMs: 2_000 })
  } catch (error) {
    if (error instanceof Failure) return null
    throw error
  }
}
