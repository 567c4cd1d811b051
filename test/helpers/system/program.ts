import { readFileSync, readlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { processStartTime } from '#lib/processes.ts'
import { cleanEnvironment, Launch, type LaunchOptions } from './launch.ts'
import { guardPlace, openPlace, type Place } from './places.ts'

export const programRoot = join(import.meta.dirname, '..', '..', '..')

/** PostgreSQL refuses root, and so does the program: `nobody` on Linux. */
export const nobody = { uid: 65_534, gid: 65_534 }
export const isRoot = process.getuid?.() === 0

export type Part = 'up' | 'supervise' | 'archive' | 'serve' | 'postgres'
/** `backend` is the server process of PostgreSQL that has worked most: the one that settles spins. */
export type Target = Part | 'backend'

export interface StartOptions {
  /** Where the home is; without it a fresh place in the temp folder. */
  home?: string
  port?: number
  env?: NodeJS.ProcessEnv
  asUser?: { uid: number; gid: number }
  /** Another clone of the program. */
  root?: string
}

/** The real program on a home of its own, with everything a test needs to hurt it. */
export class Program {
  readonly home: string
  readonly port: number
  readonly place: Place
  readonly #options: StartOptions
  readonly #postgresPort: number
  #up: Launch | undefined
  /** How long the last start took to its ready event. */
  readyMs = 0

  constructor(options: StartOptions, o: { place: Place; home: string; port: number; postgresPort: number }) {
    this.#options = options
    this.place = o.place
    this.home = o.home
    this.port = o.port
    this.#postgresPort = o.postgresPort
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** The process that `start` made; throws before that. */
  get up(): Launch {
    if (!this.#up) throw new Error('not started')
    return this.#up
  }

  /** Starts `up` and waits for its ready event. */
  async start(): Promise<void> {
    this.#up = this.launch(['up', '--json'])
    const line = await this.#up.line(/"event":"ready"/, 90_000).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.#lastLogLines()}`)
    })
    this.readyMs = performance.now() - this.#up.startedAtMs
    const { url } = JSON.parse(line) as { url: string }
    if (url !== this.url) throw new Error(`ready at ${url}, not at ${this.url}`)
  }

  /** Any verb on this home, with this program's ports. */
  launch(args: readonly string[], extra: Partial<LaunchOptions> = {}): Launch {
    const root = this.#options.root ?? programRoot
    return new Launch({
      command: [process.execPath, join(root, 'src', 'main.ts'), ...args],
      env: this.environment(),
      cwd: root,
      user: this.#options.asUser,
      ...extra,
    })
  }

  environment(): NodeJS.ProcessEnv {
    return cleanEnvironment({
      PORT: String(this.port),
      MOONYETIS_HOME: this.home,
      MOONYETIS_POSTGRES__PORT: String(this.#postgresPort),
      MOONYETIS_POSTGRES__SHARED_BUFFERS_MEGABYTES: '64',
      ...this.#options.env,
    })
  }

  /** The live parts, from the records of the home. */
  pids(): Partial<Record<Part, number>> {
    const parts: Part[] = ['up', 'supervise', 'archive', 'serve', 'postgres']
    const found = parts.map(part => [part, this.pidOf(part)] as const).filter(([, pid]) => pid !== undefined)
    return Object.fromEntries(found)
  }

  pidOf(part: Part): number | undefined {
    return part === 'postgres' ? this.#postmaster() : this.#recorded(part)
  }

  /** Signals one process; its id, or undefined when it does not run. */
  kill(target: Target, signal: NodeJS.Signals = 'SIGKILL'): number | undefined {
    const pid = target === 'backend' ? this.#busiestBackend() : this.pidOf(target)
    if (pid === undefined) return undefined
    try {
      process.kill(pid, signal)
      return pid
    } catch {
      return undefined
    }
  }

  /** Server processes of PostgreSQL that work for the application. */
  backends(): number[] {
    const postmaster = this.#postmaster()
    if (postmaster === undefined) return []
    const children = readText(`/proc/${postmaster}/task/${postmaster}/children`).trim().split(' ')
    const isApplication = (pid: number) => /^postgres: .*moonyetis_app/.test(readText(`/proc/${pid}/cmdline`))
    return children.map(Number).filter(isApplication)
  }

  /** SIGINT, as Ctrl-C; its exit. */
  async stop(withinMs = 60_000) {
    this.up.signal('SIGINT')
    return this.up.exit(withinMs)
  }

  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }

  /** Ends everything that is left and removes the home. */
  close(): Promise<void> {
    return this.place.close()
  }

  /** What the roles said last, for whoever reads why a start failed. */
  #lastLogLines(): string {
    return readText(join(this.home, 'logs', 'server.log'))
      .trimEnd()
      .split('\n')
      .slice(-40)
      .join('\n')
  }

  #recorded(part: Part): number | undefined {
    try {
      const text = readFileSync(join(this.home, 'run', `${part}.pid.json`), 'utf8')
      const { pid, startTime } = JSON.parse(text) as { pid: number; startTime: string }
      return processStartTime(pid) === startTime ? pid : undefined
    } catch {
      return undefined
    }
  }

  #postmaster(): number | undefined {
    const directory = join(this.home, 'postgres', 'node-a')
    try {
      const pid = Number(readFileSync(join(directory, 'postmaster.pid'), 'utf8').split('\n')[0])
      // A number in a file may be a stranger's by now.
      const isOurs = process.platform !== 'linux' || readlinkSync(`/proc/${pid}/cwd`) === directory
      return isOurs && processStartTime(pid) !== undefined ? pid : undefined
    } catch {
      return undefined
    }
  }

  #busiestBackend(): number | undefined {
    return this.backends().toSorted((a, b) => ticksOf(b) - ticksOf(a))[0]
  }
}

/** Starts the program and waits until it is ready; everything ends with the test `t`. */
export async function startMoonYetis(
  t: { after(work: () => Promise<void>): void },
  options: StartOptions = {},
): Promise<Program> {
  const program = await prepareMoonYetis(t, options)
  await program.start()
  return program
}

/** As startMoonYetis, without starting. */
export async function prepareMoonYetis(
  t: { after(work: () => Promise<void>): void },
  options: StartOptions = {},
): Promise<Program> {
  const owner = options.asUser
  const place = options.home === undefined ? openPlace(owner ? { owner } : {}) : guardPlace(options.home)
  t.after(() => place.close())
  const home = options.home ?? join(place.root, 'home')
  const port = options.port ?? (await freePort())
  return new Program(options, { place, home, port, postgresPort: await freePort() })
}

const tried = new Set<number>()

/**
 * A port that nobody listens on, below the range from which systems take the near end of a connection: a client that
 * calls a dead server there can end up connected to itself, and the server then finds its port taken.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 18_000)
    if (!tried.has(port) && (await canListen(port))) {
      tried.add(port)
      return port
    }
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** Looks until it is so. For what no event tells: the ends of processes that are nobody's children here. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  withinMs: number,
): Promise<void> {
  const untilMs = performance.now() + withinMs
  while (!(await isSo())) {
    if (performance.now() > untilMs) throw new Error(`not within ${withinMs} ms: ${what}`)
    await delay(25)
  }
}

/** Processor time used, in ticks: fields 14 and 15 of proc_pid_stat(5). */
function ticksOf(pid: number): number {
  const stat = readText(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0)
}

/** Empty when the process is gone. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
