import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Window } from './load.ts'
import { median } from './load.ts'
import type { World } from './world.ts'

const run = promisify(execFile)

/** pgbench's path, or undefined: Debian keeps it outside PATH. */
export function findPgbench(): string | undefined {
  const places = (process.env.PATH ?? '').split(':').map(directory => `${directory}/pgbench`)
  return [...places, '/usr/lib/postgresql/15/bin/pgbench'].find(existsSync)
}

export async function pgbenchVersion(program: string): Promise<string> {
  return (await run(program, ['--version'])).stdout.trim()
}

/** Fills the tables of scale 50 in the same database. */
export async function initialisePgbench(program: string, world: World): Promise<void> {
  await run(program, ['-i', '-q', '-s', '50', ...target(world)])
}

/** `simple-update` or `tpcb-like`, prepared statements, as many threads as cores. */
export async function pgbench(
  program: string,
  world: World,
  o: { script: 'simple-update' | 'tpcb-like'; clients: number; seconds: number },
): Promise<Window> {
  const threads = Math.min(2, o.clients)
  const { stdout } = await run(program, [
    '-n',
    '-b',
    o.script,
    '-M',
    'prepared',
    '-c',
    `${o.clients}`,
    '-j',
    `${threads}`,
    '-T',
    `${o.seconds}`,
    ...target(world),
  ])
  const perSecond = Number(/^tps = ([\d.]+)/m.exec(stdout)?.[1])
  const averageMs = Number(/^latency average = ([\d.]+)/m.exec(stdout)?.[1])
  const operations = Number(/^number of transactions actually processed: (\d+)/m.exec(stdout)?.[1])
  if (!Number.isFinite(perSecond)) throw new Error(`pgbench printed no tps:\n${stdout}`)
  // pgbench gives an average; its percentiles would need a log of every transaction.
  return { perSecond, p50Ms: median([averageMs]), p99Ms: Number.NaN, operations }
}

function target(world: World): string[] {
  const { host, port, user, database } = world.database.target('superuser')
  return ['-h', host, '-p', String(port), '-U', user, database]
}
