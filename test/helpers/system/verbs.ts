import { callControl } from '#lib/control.ts'
import { openHome } from '#lib/home.ts'
import type { ArchiveStatus } from '#roles/archive.ts'
import type { SuperviseStatus } from '#roles/supervise.ts'
import { processesOf } from './places.ts'
import { type Part, type Program, until } from './program.ts'

export interface Ran {
  code: number | null
  signal: NodeJS.Signals | null
  /** Lines of standard output that are JSON objects. */
  events: Record<string, unknown>[]
  /** The error document of standard error. */
  error?: { code: string; message: string; hint?: string }
  text: string
}

const verbWithinMs = 120_000

/** A verb on the program's home with --json, to its end. */
export async function run(
  program: Program,
  args: readonly string[],
  o: { env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  return endOf(start(program, args, o))
}

export function start(program: Program, args: readonly string[], o: { env?: NodeJS.ProcessEnv } = {}) {
  return program.launch([...args, '--json'], { env: { ...program.environment(), ...o.env } })
}

export async function endOf(launch: ReturnType<typeof start>): Promise<Ran> {
  const { code, signal } = await launch.exit(verbWithinMs)
  const error = launch.err.map(parse).find(line => typeof line?.error === 'object')?.error
  return {
    code,
    signal,
    events: launch.out.map(parse).filter(line => line !== undefined),
    ...(error ? { error: error as NonNullable<Ran['error']> } : {}),
    text: launch.text,
  }
}

/** What the verb printed last. Throws unless it ended well. */
export async function succeed<T>(
  program: Program,
  args: readonly string[],
  o: { env?: NodeJS.ProcessEnv } = {},
): Promise<T> {
  const { code, events, text } = await run(program, args, o)
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}:\n${text}`)
  return events.at(-1) as T
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** @throws ROLE_NOT_RUNNING */
export function archiveStatus(program: Program): Promise<ArchiveStatus> {
  return callControl({ path: openHome(program.home).socket('archive'), route: '/status' })
}

/** @throws ROLE_NOT_RUNNING */
export function superviseStatus(program: Program): Promise<SuperviseStatus> {
  return callControl({ path: openHome(program.home).socket('supervise'), route: '/status' })
}

/** Until every acknowledged commit is with the archive too. */
export async function untilSynchronous(program: Program, withinMs = 30_000): Promise<void> {
  const isMember = async () => {
    const { topology } = await superviseStatus(program)
    return topology?.members.some(({ name }) => name === 'archive') ?? false
  }
  await until('the archive is a synchronous member', isMember, withinMs)
}

export async function untilStreaming(program: Program, withinMs = 30_000): Promise<void> {
  const isStreaming = async () => {
    const status = await archiveStatus(program).catch(() => undefined)
    return status?.archiver.state === 'streaming'
  }
  await until('the archive streams', isStreaming, withinMs)
}

// up first: nobody starts anything again.
const everything: readonly Part[] = ['up', 'supervise', 'archive', 'serve', 'postgres']

/** As a machine does that loses its power: kill -9 of every part at once. Resolves with the moment, when all is gone. */
export async function killEverything(program: Program): Promise<number> {
  const atMs = performance.now()
  for (const part of everything) program.kill(part)
  await until('nothing of the home runs', () => processesOf(program.home).length === 0, 30_000)
  return atMs
}
