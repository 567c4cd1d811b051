import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { type Clock, systemClock } from '#lib/clock.ts'
import { callControl, isListening, serveControl } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'
import { Lifecycle, onShutdown } from '#lib/lifecycle.ts'
import { createLog, type Log } from '#lib/log.ts'
import { readRecord, removeRecord, writeRecord } from '#lib/processes.ts'
import { roleError } from './errors.ts'
import type { SuperviseStatus } from './supervise.ts'
import { type RoleName, stopOrphanedPostgres, stopOrphanedRoles } from './up/orphans.ts'
import { Output } from './up/output.ts'
import { reservePort } from './up/port.ts'
import { RoleProcess } from './up/role-process.ts'
import { waitUntilReady } from './up/wait.ts'

export interface UpOptions {
  home: Home
  programRoot: string
  /** Program and arguments before the verb: node and main.ts. */
  command: readonly [string, ...string[]]
  env: NodeJS.ProcessEnv
  http: { host: string; port: number; drainMs: number }
  postgres: { topology: 'embedded' | 'external'; startWithinSeconds: number; stopWithinSeconds: number }
  logLevel: string
  /** For events: text lines, or JSON lines with `json`. */
  print: (line: string) => void
  json: boolean
  /** For the roles' log lines; not used with `json`. */
  console: Writable
}

/** The answer of GET /status on run/up.sock. */
export interface UpStatus {
  state: 'starting' | 'ready' | 'stopping'
  url: string
  pid: number
  roles: { name: string; pid?: number; restarts: number }[]
}

// serve answers within a second; what takes longer is a database that is still recovering, which supervise reports.
const serveReadyWithinMs = 120_000
// Beyond the role's own deadlines, for its process to end.
const marginMs = 5_000
// The last segment of the log, and a running backup that is cancelled.
const archiveStopWithinMs = 20_000
// A terminal's Ctrl-C comes twice under npm: from the terminal itself and passed on by npm.
const sameSignalMs = 1_000

/** Starts every role of this machine and watches them until a signal; then stops all, in order. */
export async function up(options: UpOptions): Promise<void> {
  const { home } = options
  await refuseSecond(home)
  const output = new Output({
    logs: home.logs,
    console: options.json ? undefined : options.console,
    clock: systemClock,
  })
  const destination = { write: (line: string) => output.line('up', line.trimEnd()) }
  const log = createLog({ role: 'up', level: options.logLevel, destination })
  const running = new Up(options, output, log, systemClock)
  try {
    await running.run()
  } finally {
    output.close()
  }
}

async function refuseSecond(home: Home): Promise<void> {
  if (await isListening(home.socket('up'))) throw alreadyRunning(home)
}

function alreadyRunning(home: Home, cause?: unknown) {
  return roleError(
    'ALREADY_RUNNING',
    { home: home.root, pid: readRecord(home, 'up')?.pid ?? 'unknown' },
    { cause },
  )
}

class Up {
  readonly #options: UpOptions
  readonly #output: Output
  readonly #log: Log
  readonly #clock: Clock
  readonly #lifecycle: Lifecycle
  readonly #roles: RoleProcess[] = []
  readonly #stop = new AbortController()
  #state: UpStatus['state'] = 'starting'
  #url = ''
  #hurried = false

  constructor(options: UpOptions, output: Output, log: Log, clock: Clock) {
    this.#options = options
    this.#output = output
    this.#log = log
    this.#clock = clock
    this.#lifecycle = new Lifecycle({ log, clock })
  }

  async run(): Promise<void> {
    await this.#claimHome()
    const undo = this.#listenForSignals()
    try {
      await this.#start()
      await aborted(this.#stop.signal)
    } catch (error) {
      // Told to stop while starting: that is an end as asked, not a failure.
      if (!this.#stop.signal.aborted) throw error
    } finally {
      this.#state = 'stopping'
      await this.#lifecycle
        .close()
        .catch(error => this.#log.error({ err: error }, 'not everything stopped cleanly'))
      undo()
    }
    this.#say({ event: 'stopped' }, 'stopped')
  }

  /** Only one `up` per home: the one that listens here. */
  async #claimHome(): Promise<void> {
    const { home } = this.#options
    const routes = { 'GET /status': () => this.#status(), 'POST /stop': () => this.#stopByRequest() }
    await this.#lifecycle
      .open(
        'control socket',
        () => serveControl({ path: home.socket('up'), routes, log: this.#log }),
        one => one.close(),
      )
      .catch(error => {
        throw error.code === 'CONTROL_IN_USE' ? alreadyRunning(home, error) : error
      })
    const record = () => writeRecord(home, 'up', process.pid)
    await this.#lifecycle.open('process record', record, () => removeRecord(home, 'up'))
  }

  async #start(): Promise<void> {
    const { home, http, postgres } = this.#options
    const embedded = postgres.topology === 'embedded'
    const stopWithinMs = postgres.stopWithinSeconds * 1000
    await stopOrphanedRoles(home, this.#log)
    // Last to close: whatever happened to supervise, no PostgreSQL may stay behind.
    await this.#lifecycle.open(
      'PostgreSQL',
      () => {},
      () => this.#stopPostgres(stopWithinMs),
      stopWithinMs + 3 * marginMs,
    )
    // Closed after PostgreSQL has stopped: the archive receives the log to its very end.
    const archive = await this.#add('archive', {}, archiveStopWithinMs)
    const port = await reservePort(http)
    this.#url = `http://${hostForUrl(http.host)}:${port}`
    if (embedded) {
      // Immediate stop, kill and leftovers each have their own deadline after the fast stop.
      const supervise = await this.#open('supervise', {}, stopWithinMs + 3 * marginMs)
      await waitUntilReady(supervise, {
        withinMs: postgres.startWithinSeconds * 1000 + marginMs,
        signal: this.#stop.signal,
        clock: this.#clock,
        log: this.#logFile(),
        look: () => this.#lookAtSupervise(),
      })
    }
    // Nobody waits for it: a repository that is away must not keep the game down.
    archive.start()
    const serve = await this.#open(
      'serve',
      { PORT: String(port), MOONYETIS_HTTP__PORT: String(port) },
      http.drainMs + marginMs,
    )
    await waitUntilReady(serve, {
      withinMs: serveReadyWithinMs,
      whileItGetsOn: true,
      signal: this.#stop.signal,
      clock: this.#clock,
      log: this.#logFile(),
      look: () => lookAtServe(this.#url),
    })
    this.#becomeReady()
  }

  #becomeReady(): void {
    const { home } = this.#options
    this.#state = 'ready'
    const tokenFile = join(home.secrets, 'admin_token')
    const hasToken = existsSync(tokenFile) && statSync(tokenFile).size > 0
    this.#say(
      { event: 'ready', url: this.#url, ...(hasToken ? { adminTokenFile: tokenFile } : {}) },
      `ready ${this.#url}`,
    )
    if (hasToken && !this.#options.json)
      this.#options.print(`the first operator token is in ${tokenFile}; keep it and delete the file`)
  }

  async #open(name: RoleName, extra: NodeJS.ProcessEnv, stopWithinMs: number): Promise<RoleProcess> {
    const role = await this.#add(name, extra, stopWithinMs)
    role.start()
    return role
  }

  /** Gives the role its place in the order of stopping; it is started later. */
  async #add(name: RoleName, extra: NodeJS.ProcessEnv, stopWithinMs: number): Promise<RoleProcess> {
    const { home, command, env } = this.#options
    const role = new RoleProcess({
      name,
      command: [...command, name],
      env: { ...env, ...extra, MOONYETIS_HOME: home.root },
      home,
      onLine: (line, level) => this.#output.line(name, line, level),
      log: this.#log,
      clock: this.#clock,
    })
    this.#roles.push(role)
    return this.#lifecycle.open(
      name,
      () => role,
      one => one.stop(stopWithinMs),
      stopWithinMs + marginMs,
    )
  }

  async #lookAtSupervise(): Promise<string | undefined> {
    const status = await callControl<SuperviseStatus>({
      path: this.#options.home.socket('supervise'),
      route: '/status',
    })
    if (!status.ready) return status.reason
    const { port, version } = status.node
    this.#log.info({ port, version, database: 'moonyetis_slots' }, 'database is ready')
    return undefined
  }

  async #stopPostgres(withinMs: number): Promise<void> {
    if (this.#options.postgres.topology === 'external') return
    const mode = this.#hurried ? 'immediate' : 'fast'
    await stopOrphanedPostgres(this.#options.home, { mode, withinMs, log: this.#log })
  }

  #listenForSignals(): () => void {
    let firstMs: number | undefined
    return onShutdown(['SIGINT', 'SIGTERM', 'SIGHUP'], signal => {
      const nowMs = this.#clock.monotonicMs()
      firstMs ??= nowMs
      if (!this.#stop.signal.aborted) {
        this.#log.info({ signal }, 'stopping')
        return this.#stop.abort()
      }
      if (nowMs - firstMs < sameSignalMs) return
      this.#log.warn({ signal }, 'hurrying')
      this.#hurried = true
      for (const role of this.#roles) role.hurry()
    })
  }

  #stopByRequest() {
    this.#log.info('stop was asked for')
    // After the answer is on its way; closing the socket ends this very conversation.
    setImmediate(() => this.#stop.abort())
    return { stopping: true, pid: process.pid }
  }

  #status(): UpStatus {
    const roles = this.#roles.map(({ name, pid, restarts }) => ({
      name,
      ...(pid === undefined ? {} : { pid }),
      restarts,
    }))
    return { state: this.#state, url: this.#url, pid: process.pid, roles }
  }

  #say(event: Record<string, unknown>, text: string): void {
    this.#options.print(this.#options.json ? JSON.stringify(event) : text)
  }

  #logFile(): string {
    return join(this.#options.home.logs, 'server.log')
  }
}

async function lookAtServe(url: string): Promise<string | undefined> {
  const response = await fetch(`${url}/readyz`, {
    signal: AbortSignal.timeout(5_000),
    headers: { connection: 'close' },
  })
  const { reasons } = (await response.json()) as { reasons: string[] }
  return response.status === 200 ? undefined : reasons.join(' ')
}

/** An address that this machine can call when the server listens on all of them. */
function hostForUrl(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1'
  return host.includes(':') ? `[${host}]` : host
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
