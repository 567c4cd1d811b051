import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface LaunchOptions {
  command: readonly [string, ...string[]]
  env?: NodeJS.ProcessEnv
  cwd?: string
  user?: { uid: number; gid: number }
}

const pipesWithinMs = 2_000

/** A started command whose lines can be waited for. */
export class Launch {
  /** Lines of standard output and standard error, as they came. */
  readonly out: string[] = []
  readonly err: string[] = []
  readonly exited: Promise<Exit>
  readonly startedAtMs = performance.now()
  readonly #child: ChildProcess
  readonly #waiting = new Set<() => void>()
  #exit: Exit | undefined

  constructor(options: LaunchOptions) {
    const [program, ...args] = options.command
    // Its own group: a signal for the test process must not reach it by chance.
    this.#child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: options.env ?? cleanEnvironment(),
      cwd: options.cwd,
      uid: options.user?.uid,
      gid: options.user?.gid,
    })
    this.#collect(this.#child.stdout, this.out)
    this.#collect(this.#child.stderr, this.err)
    const closed = once(this.#child, 'close').catch(() => {})
    this.exited = once(this.#child, 'exit')
      .catch((error: Error) => {
        this.err.push(`does not start: ${error.message}`)
        return [null, null]
      })
      .then(async ([code, signal]) => {
        // What is still in the pipes is read first; an orphan may hold them open, though.
        await Promise.race([closed, delay(pipesWithinMs, undefined, { ref: false })])
        this.#exit = { code, signal }
        this.#look()
        return this.#exit
      })
  }

  get pid(): number {
    return this.#child.pid as number
  }

  get running(): boolean {
    return this.#exit === undefined
  }

  /** Everything printed so far. */
  get text(): string {
    return [...this.out, ...this.err].join('\n')
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  /** As a terminal does with Ctrl-C: to the command and everything that it runs in its group. */
  signalGroup(name: NodeJS.Signals): void {
    process.kill(-this.pid, name)
  }

  /** The first line of standard output that fits. Throws when the command ends, or `withinMs` is over, without one. */
  async line(fits: RegExp, withinMs = 60_000): Promise<string> {
    const untilMs = performance.now() + withinMs
    for (;;) {
      const found = this.out.find(line => fits.test(line))
      if (found !== undefined) return found
      if (this.#exit) throw new Error(`ended (${JSON.stringify(this.#exit)}) without ${fits}:\n${this.text}`)
      const leftMs = untilMs - performance.now()
      if (leftMs <= 0) throw new Error(`no ${fits} within ${withinMs} ms:\n${this.text}`)
      await this.#change(leftMs)
    }
  }

  /** How it ended. Throws when it has not within `withinMs`. */
  async exit(withinMs = 60_000): Promise<Exit> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => reject(new Error(`still running after ${withinMs} ms:\n${this.text}`)),
      withinMs,
    )
    return Promise.race([this.exited, late]).finally(() => clearTimeout(timer))
  }

  #collect(stream: NodeJS.ReadableStream | null, lines: string[]): void {
    if (!stream) return
    createInterface({ input: stream }).on('line', line => {
      lines.push(line)
      this.#look()
    })
  }

  #look(): void {
    for (const wake of this.#waiting) wake()
  }

  #change(withinMs: number): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, withinMs)
      this.#waiting.add(wake)
    })
  }
}

/** The environment of a stranger's shell: nothing of the program, of npm or of the test runner in it. */
export function cleanEnvironment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const ours =
    /^(MOONYETIS_(?!POSTGRES_BIN$)|npm_|NODE_TEST_CONTEXT$|PORT$|HOST$|PUBLIC_URL$|DATABASE_URL$|NODE_ENV$|LOG_LEVEL$)/
  const kept = Object.entries(process.env).filter(([name]) => !ours.test(name))
  return { ...Object.fromEntries(kept), ...extra }
}
