import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { backupError } from '../errors.ts'

export type JobKind = 'full' | 'db' | 'files' | 'drill' | 'verify' | 'prune'

export interface Job {
  id: string
  kind: JobKind
  /** Who asked: `schedule`, `operator:3f9a1c04d27e`, `gap`. */
  by: string
  startedAt: string
  finishedAt?: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  /** The last progress line of the verb. */
  progress?: Record<string, unknown>
  /** What the verb said at its end. */
  result?: Record<string, unknown>
  error?: { code: string; message: string; hint?: string }
}

export interface JobsOptions {
  /** node and main.ts, before the verb. */
  command: readonly [string, ...string[]]
  env: NodeJS.ProcessEnv
  cwd: string
  clock: Clock
  log: Log
  /** After each end, whatever it was. */
  onEnd: (job: Job) => void
  /** How long a cancelled verb may take to leave things tidy. */
  cancelWithinMs?: number
}

// A verb's line of progress or its result; a report of a drill is some KiB.
const longestLine = 1024 * 1024
const remembered = 50

type Child = ChildProcessByStdio<Writable, Readable, Readable>

/**
 * Runs the heavy verbs (backups, drills, checks, pruning) as processes of their own, one at a time: what they cost never
 * holds up the acknowledgement of WAL. A verb ends when its standard input closes, so none outlives this process.
 */
export class Jobs {
  readonly #o: JobsOptions
  readonly #history: Job[] = []
  #running: { job: Job; child: Child; ended: Promise<void>; cancel: () => void } | undefined

  constructor(options: JobsOptions) {
    this.#o = options
  }

  get running(): Job | undefined {
    return this.#running?.job
  }

  /** Newest first. */
  get history(): readonly Job[] {
    return this.#history
  }

  find(id: string): Job | undefined {
    return this.#history.find(job => job.id === id)
  }

  /** @throws BACKUP_BUSY while another one runs. */
  start(kind: JobKind, args: readonly string[], by: string): Job {
    const busy = this.#running?.job
    if (busy) {
      const what = `the ${busy.kind} job`
      throw backupError('BACKUP_BUSY', { what, holder: busy.by, since: busy.startedAt, leaseSeconds: 60 })
    }
    const job: Job = {
      id: randomBytes(6).toString('hex'),
      kind,
      by,
      startedAt: this.#o.clock.now().toISOString(),
      state: 'running',
    }
    const { child, ended } = this.#spawn(job, args)
    const finished = ended.then(exit => this.#finish(job, exit))
    this.#running = { job, child, ended: finished, cancel: () => this.#cancel(job, child) }
    this.#history.unshift(job)
    this.#history.length = Math.min(this.#history.length, remembered)
    this.#o.log.info({ job: job.id, kind, by }, 'job started')
    return job
  }

  /** Ends the running job, if it is this one or no id is given, and waits for its end. */
  async cancel(id?: string): Promise<void> {
    const running = this.#running
    if (!running || (id !== undefined && running.job.id !== id)) return
    running.cancel()
    await running.ended
  }

  async #spawnFailed(child: Child): Promise<string> {
    return new Promise(resolve => child.once('error', error => resolve(error.message)))
  }

  #spawn(job: Job, args: readonly string[]): { child: Child; ended: Promise<Exit> } {
    const [program, ...first] = this.#o.command
    const verb = [...first, 'backup', job.kind, ...args, '--json', '--attached']
    const child = spawn(program, verb, {
      cwd: this.#o.cwd,
      env: this.#o.env,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    // Closed by the child's end, which is told below.
    child.stdin.on('error', () => {})
    const errors: string[] = []
    readLines(child.stdout, line => this.#hear(job, line))
    readLines(child.stderr, line => {
      errors.push(line)
      if (errors.length > 20) errors.shift()
    })
    const closed = new Promise<Exit>(resolve => {
      child.once('close', (code, signal) => resolve({ code, signal, errors }))
    })
    const failed = this.#spawnFailed(child).then(message => ({ code: null, signal: null, errors: [message] }))
    return { child, ended: Promise.race([closed, failed]) }
  }

  #hear(job: Job, line: string): void {
    const said = parseObject(line)
    if (!said) return
    const { event, ...facts } = said
    if (event === 'progress') job.progress = facts
    else if (event === 'done') job.result = facts
  }

  #finish(job: Job, exit: Exit): void {
    this.#running = undefined
    job.finishedAt = this.#o.clock.now().toISOString()
    if (exit.code === 0) job.state = 'done'
    else {
      if (job.state !== 'cancelled') job.state = 'failed'
      job.error = errorOf(exit)
    }
    const { id, kind, state, error } = job
    const facts = { job: id, kind, state, ...(error ? { error } : {}) }
    if (state === 'failed') this.#o.log.error(facts, 'job failed')
    else this.#o.log.info(facts, 'job ended')
    this.#o.onEnd(job)
  }

  #cancel(job: Job, child: Child): void {
    job.state = 'cancelled'
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), this.#o.cancelWithinMs ?? 15_000)
    child.once('close', () => clearTimeout(timer))
  }
}

interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  errors: readonly string[]
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', line => {
    if (line.length <= longestLine) onLine(line)
  })
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** The verb's own error document, which is its last line on standard error. */
function errorOf({ code, signal, errors }: Exit): NonNullable<Job['error']> {
  for (const line of errors.toReversed()) {
    const { error } = parseObject(line) ?? {}
    if (typeof error === 'object' && error !== null && 'code' in error)
      return error as NonNullable<Job['error']>
  }
  const how = signal ? `signal ${signal}` : `exit ${code}`
  return { code: 'JOB_ENDED', message: `The verb ended with ${how}. ${errors.at(-1) ?? ''}`.trim() }
}
