import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#lib/clock.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { type ProcessRecord, processStartTime, removeRecord, terminate, writeRecord } from '#lib/processes.ts'
import { nextRestart, noRestarts, type RestartPolicy } from '#lib/restarts.ts'
import { LineSplitter } from './lines.ts'

export interface RoleOptions {
  name: string
  /** Program and arguments. */
  command: readonly [string, ...string[]]
  env: NodeJS.ProcessEnv
  home: Home
  /** Receives each line the role prints; `level` is for text that is no log line. */
  onLine: (line: string, level: string) => void
  log: Log
  clock: Clock
}

/** How one run of a role ended. */
export interface RoleExit {
  code: number | null
  signal: NodeJS.Signals | null
  ranMs: number
  /** The last `error: ...` line that it printed. */
  lastError: string | undefined
}

const policy: RestartPolicy = { firstDelayMs: 250, longestDelayMs: 30_000, stableAfterMs: 60_000 }

// Enough for an immediate stop of PostgreSQL.
const hurriedMs = 3_000

/** Runs one role as a child in its own process group, and again when it ends. */
export class RoleProcess {
  readonly name: string
  /** Ends of runs so far; what a waiting start looks at. */
  readonly exits: RoleExit[] = []
  readonly #options: RoleOptions
  readonly #stopping = new AbortController()
  #child: ChildProcess | undefined
  #record: ProcessRecord | undefined
  #finished: Promise<void> | undefined
  #history = noRestarts

  constructor(options: RoleOptions) {
    this.name = options.name
    this.#options = options
  }

  get pid(): number | undefined {
    return this.#child?.exitCode === null && this.#child.signalCode === null ? this.#child.pid : undefined
  }

  get restarts(): number {
    return Math.max(0, this.exits.length - (this.pid === undefined ? 1 : 0))
  }

  start(): void {
    this.#finished = this.#keepRunning()
  }

  /** SIGTERM, SIGKILL after `withinMs`. Resolves when the role is gone and will not come back. */
  async stop(withinMs: number): Promise<void> {
    this.#stopping.abort()
    if (this.#record) {
      const outcome = await terminate(this.#record, { graceMs: withinMs })
      if (outcome === 'killed')
        this.#options.log.warn({ role: this.name, withinMs }, 'role did not stop in time and was killed')
    }
    await this.#finished
  }

  /** A second SIGTERM tells a role that is draining to hurry; one that does not is killed. */
  hurry(): void {
    const child = this.#child
    if (this.pid === undefined || !child) return
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), hurriedMs).unref()
  }

  async #keepRunning(): Promise<void> {
    const { log, home } = this.#options
    while (!this.#stopping.signal.aborted) {
      const exit = await this.#runOnce()
      this.exits.push(exit)
      // Bounded: only the last few are ever looked at.
      if (this.exits.length > 1000) this.exits.shift()
      removeRecord(home, this.name)
      if (this.#stopping.signal.aborted) return
      const next = nextRestart(this.#history, exit.ranMs, policy)
      this.#history = next.history
      const { code, signal } = exit
      log.error({ role: this.name, code, signal, restartInMs: next.delayMs }, 'role ended unexpectedly')
      await delay(next.delayMs, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
  }

  async #runOnce(): Promise<RoleExit> {
    const { command, env, home, name, clock } = this.#options
    const startedMs = clock.monotonicMs()
    const [program, ...args] = command
    // Its own group: Ctrl-C of a terminal reaches `up` alone, which then stops the roles in order.
    const child = spawn(program, args, {
      env,
      cwd: home.root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const lastError = this.#readLines(child)
    this.#child = child
    const closed = once(child, 'close')
    this.#record = recorded(home, name, child.pid)
    const [code, signal] = (await closed.catch((error: Error) => [error.message, null])) as [
      number | null,
      NodeJS.Signals | null,
    ]
    return { code, signal, ranMs: clock.monotonicMs() - startedMs, lastError: lastError() }
  }

  #readLines(child: ChildProcess): () => string | undefined {
    let lastError: string | undefined
    const { onLine } = this.#options
    const out = new LineSplitter(line => onLine(line, 'info'))
    const err = new LineSplitter(line => {
      if (line.startsWith('error: ')) lastError = line.slice('error: '.length)
      onLine(line, 'warn')
    })
    child.stdout?.on('data', chunk => out.push(chunk)).on('end', () => out.end())
    child.stderr?.on('data', chunk => err.push(chunk)).on('end', () => err.end())
    return () => lastError
  }
}

/** Undefined when it ended at once: there is nothing to stop then. What a full disk does not take is still known here. */
function recorded(home: Home, name: string, pid: number | undefined): ProcessRecord | undefined {
  if (pid === undefined) return undefined
  try {
    return writeRecord(home, name, pid)
  } catch {
    const startTime = processStartTime(pid)
    return startTime === undefined ? undefined : { pid, startTime, name }
  }
}
