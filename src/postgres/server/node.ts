import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { processStartTime } from '#lib/processes.ts'
import { superuserName } from './access.ts'
import type { Binaries } from './binaries.ts'
import { initialiseDirectory, lastPort, type RunAs, writeConfiguration } from './data-directory.ts'
import { postgresServerError } from './errors.ts'
import { readPidFile } from './pid-file.ts'
import { choosePort } from './port.ts'
import {
  clearSocketLock,
  clearTheWay,
  findPostmaster,
  isPostmasterAlive,
  type Postmaster,
} from './postmaster.ts'
import { reloadSettings } from './reload.ts'
import {
  defaultSharedBuffersMegabytes,
  loopbackAddresses,
  renderSettings,
  type SettingValue,
  usableMemoryBytes,
} from './settings.ts'
import { type StopMode, type StopOutcome, stopPostmaster } from './stop.ts'

/** Where a node can be reached now. */
export interface RunningNode extends Postmaster {
  port: number
  socketDirectory: string
  /** True when it was found running rather than started by this process. */
  adopted: boolean
}

/** One PostgreSQL server on this machine. Replication puts a second one beside the first. */
export interface PostgresNode {
  readonly name: string
  readonly dataDirectory: string
  readonly logDirectory: string
  readonly version: string
  readonly running: RunningNode | undefined
  /** initdb unless the directory is there; returns whether it was made now. */
  initialise(): Promise<boolean>
  /** Takes over a live postmaster of an earlier supervisor; undefined when there is none. */
  adopt(): RunningNode | undefined
  /** Adopts, or clears the leftovers of a crash and starts detached. Resolves when a connection succeeded. */
  start(withinMs: number): Promise<RunningNode>
  /** Resolves when it answers a query. Throws POSTGRES_NOT_READY, POSTGRES_START_FAILED when it ends first. */
  ready(withinMs: number): Promise<void>
  /** Stops it and proves that no process is left; escalates when a mode takes longer than `withinMs`. */
  stop(options: { mode: StopMode; withinMs: number }): Promise<StopOutcome>
  /** Calls `onExit` once when the running postmaster is gone. Returns the undo. */
  watch(onExit: (facts: ExitFacts) => void): () => void
  /**
   * Changes settings that need no restart, values as SHOW prints them: durable in moonyetis.conf, then read by the
   * server. Resolves when its new sessions have them, so every process of it has been told. A node that is not running
   * has them from its next start on. Throws POSTGRES_SETTING_NOT_TAKEN.
   */
  changeSettings(settings: Readonly<Record<string, string>>, withinMs: number): Promise<void>
  /** Parameters for a connection over the socket. */
  connection(options: { user: string; database: string }): pg.ClientConfig
}

export interface ExitFacts {
  /** Its pid. */
  postmaster: number
  /** Known for a child of this process only. */
  code?: number | null
  signal?: NodeJS.Signals | null
}

export interface NodeOptions {
  name: string
  dataDirectory: string
  binaries: Binaries
  socketDirectory: string
  /** Wanted port; a free one is taken when it is in use. */
  port: number
  logDirectory: string
  log: Log
  clock: Clock
  sharedBuffersMegabytes?: number
  settings?: Readonly<Record<string, SettingValue>>
  runAs?: RunAs | undefined
}

export function createNode(options: NodeOptions): PostgresNode {
  return new LocalNode(options)
}

// The next start after a crash may meet a port taken meanwhile or memory still held by a dying child.
const startAttempts = 5
const readyPollMs = 15
const adoptedPollMs = 100
// Nothing of our own environment: it may hold secrets, and every backend would show it in /proc.
const serverEnvironment = { PATH: '/usr/local/bin:/usr/bin:/bin', TZ: 'UTC', LC_ALL: 'C' }

class LocalNode implements PostgresNode {
  readonly name: string
  readonly dataDirectory: string
  readonly logDirectory: string
  readonly version: string
  readonly #options: NodeOptions
  #running: RunningNode | undefined
  #child: ChildProcess | undefined
  #changed: Readonly<Record<string, string>> = {}
  // Where the server's log ended before this launch: what follows is about this launch.
  #markedLog = ''
  #markedBytes = 0

  constructor(options: NodeOptions) {
    this.#options = options
    this.name = options.name
    this.dataDirectory = options.dataDirectory
    this.logDirectory = options.logDirectory
    this.version = options.binaries.version
  }

  get running(): RunningNode | undefined {
    if (this.#running && !isPostmasterAlive(this.#running)) this.#running = undefined
    return this.#running
  }

  async initialise(): Promise<boolean> {
    const made = await initialiseDirectory(this.#options)
    if (made) this.#options.log.info({ node: this.name, version: this.version }, 'database directory created')
    return made
  }

  adopt(): RunningNode | undefined {
    if (this.running) return this.#running
    if (!existsSync(this.dataDirectory)) return undefined
    const found = findPostmaster(this.dataDirectory)
    if (!found) return undefined
    const { pid, startTime, file } = found
    this.#running = {
      pid,
      startTime,
      port: file.port ?? this.#options.port,
      socketDirectory: file.socketDirectory ?? this.#options.socketDirectory,
      adopted: true,
    }
    return this.#running
  }

  async start(withinMs: number): Promise<RunningNode> {
    const untilMs = this.#nowMs() + withinMs
    for (let attempt = 1; ; attempt++) {
      const running = this.adopt() ?? (await this.#launch())
      try {
        await this.ready(Math.max(1, untilMs - this.#nowMs()))
        return running
      } catch (error) {
        if (attempt >= startAttempts || this.running || !isPassing(error) || this.#nowMs() >= untilMs)
          throw error
        this.#options.log.warn(
          { node: this.name, attempt, err: error },
          'PostgreSQL did not start, trying again',
        )
      }
    }
  }

  async ready(withinMs: number): Promise<void> {
    const untilMs = this.#nowMs() + withinMs
    let reason = 'no answer yet'
    while (this.#nowMs() < untilMs) {
      const { running } = this
      if (!running) throw this.#startFailure()
      reason = await this.#whyNotReady(running)
      if (reason === '') return
      await delay(readyPollMs)
    }
    throw postgresServerError('POSTGRES_NOT_READY', { ...this.#facts(), withinMs, reason })
  }

  async stop(options: { mode: StopMode; withinMs: number }): Promise<StopOutcome> {
    const { log, clock } = this.#options
    const outcome = await stopPostmaster({ dataDirectory: this.dataDirectory, ...options, log, clock })
    this.#running = undefined
    return outcome
  }

  watch(onExit: (facts: ExitFacts) => void): () => void {
    const { running } = this
    if (!running) throw new Error(`${this.name} is not running`)
    const child = this.#child
    if (child && child.pid === running.pid) {
      const listener = (code: number | null, signal: NodeJS.Signals | null) =>
        onExit({ postmaster: running.pid, code, signal })
      child.once('exit', listener)
      return () => child.off('exit', listener)
    }
    const timer = setInterval(() => {
      if (isPostmasterAlive(running)) return
      clearInterval(timer)
      onExit({ postmaster: running.pid })
    }, adoptedPollMs)
    return () => clearInterval(timer)
  }

  async changeSettings(settings: Readonly<Record<string, string>>, withinMs: number): Promise<void> {
    this.#changed = { ...this.#changed, ...settings }
    const { running, dataDirectory } = this
    if (!running) return
    this.#writeConfiguration(running.port, loopbackAddresses())
    const { clock } = this.#options
    const connection = this.connection({ user: superuserName, database: 'postgres' })
    await reloadSettings({ running, dataDirectory, connection, settings, withinMs, clock })
  }

  connection(options: { user: string; database: string }): pg.ClientConfig {
    const { port, socketDirectory } = this.#running ?? this.#options
    const settings = { ssl: false, application_name: 'moonyetis', connectionTimeoutMillis: 5_000 }
    return { host: socketDirectory, port, ...options, ...settings }
  }

  async #launch(): Promise<RunningNode> {
    const { log, binaries, socketDirectory, runAs } = this.#options
    const ended = await clearTheWay(this.dataDirectory)
    if (ended > 0) log.warn({ node: this.name, ended }, 'leftover PostgreSQL processes were ended')
    const port = await this.#configure()
    clearSocketLock(socketDirectory, port)
    const output = openSync(this.#firstLog(), 'w', 0o600)
    this.#markedLog = this.#currentLog()
    this.#markedBytes = statSync(this.#markedLog, { throwIfNoEntry: false })?.size ?? 0
    try {
      const child = spawn(join(binaries.directory, 'postgres'), ['-D', this.dataDirectory], {
        ...runAs,
        cwd: this.dataDirectory,
        // Its own session: neither Ctrl-C nor the end of this process reaches it.
        detached: true,
        stdio: ['ignore', output, output],
        env: serverEnvironment,
      })
      await once(child, 'spawn')
      child.unref()
      this.#child = child
      const pid = child.pid as number
      const startTime = processStartTime(pid) ?? 'ended at once'
      this.#running = { pid, startTime, port, socketDirectory, adopted: false }
      log.info({ node: this.name, port, postmaster: pid }, 'PostgreSQL launched')
      return this.#running
    } finally {
      closeSync(output)
    }
  }

  /** Writes the configuration for a port that is free now, and returns the port. */
  async #configure(): Promise<number> {
    const options = this.#options
    const listenAddresses = loopbackAddresses()
    const wanted = [options.port, lastPort(this.dataDirectory) ?? options.port]
    const port = await choosePort(wanted, listenAddresses)
    if (port !== options.port)
      options.log.warn(
        { node: this.name, wanted: options.port, port },
        'PostgreSQL port was taken, another is used',
      )
    this.#makeDirectory(options.logDirectory)
    this.#writeConfiguration(port, listenAddresses)
    return port
  }

  #writeConfiguration(port: number, listenAddresses: readonly string[]): void {
    const options = this.#options
    const settings = renderSettings({
      name: this.name,
      port,
      socketDirectory: options.socketDirectory,
      listenAddresses,
      logDirectory: options.logDirectory,
      sharedBuffersMegabytes:
        options.sharedBuffersMegabytes || defaultSharedBuffersMegabytes(usableMemoryBytes()),
      major: options.binaries.major,
      extra: { ...options.settings, ...this.#changed },
    })
    writeConfiguration(options, settings)
  }

  #makeDirectory(path: string): void {
    const { runAs } = this.#options
    if (existsSync(path)) return
    mkdirSync(path, { recursive: true, mode: 0o700 })
    if (runAs && process.getuid?.() === 0) chownSync(path, runAs.uid, runAs.gid)
  }

  /** Empty when it is ready. */
  async #whyNotReady(running: RunningNode): Promise<string> {
    // An older postmaster.pid may lie there until the new postmaster has replaced it.
    const file = readPidFile(this.dataDirectory)
    if (file?.pid !== running.pid) return 'it has not written postmaster.pid'
    if (file.status !== 'ready') return `it says: ${file.status ?? 'nothing'}`
    const client = new pg.Client(this.connection({ user: superuserName, database: 'postgres' }))
    // A connection that breaks after connect() emits error too; the next look tells.
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('SELECT 1')
      return ''
    } catch (error) {
      return (error as Error).message || 'no connection'
    } finally {
      await client.end().catch(() => {})
    }
  }

  #startFailure() {
    const log = this.#currentLog()
    const said =
      log === this.#firstLog() ? '' : readFrom(log, log === this.#markedLog ? this.#markedBytes : 0)
    const lines = `${readFrom(this.#firstLog(), 0)}\n${said}`.split('\n').filter(line => line.trim() !== '')
    const reason =
      lines.findLast(line => /FATAL|PANIC/.test(line)) ?? lines.at(-1) ?? 'it ended without a word'
    return postgresServerError('POSTGRES_START_FAILED', {
      ...this.#facts(),
      reason: reason.replace(/^.*?(FATAL|PANIC):\s*/, ''),
    })
  }

  #facts() {
    return { dataDirectory: this.dataDirectory, logFile: this.#currentLog() }
  }

  /** What postgres says before its log collector runs. */
  #firstLog(): string {
    return join(this.logDirectory, `${this.name}-start.log`)
  }

  #currentLog(): string {
    try {
      const listed = /^stderr (.+)$/m.exec(readFileSync(join(this.dataDirectory, 'current_logfiles'), 'utf8'))
      return listed?.[1] ?? this.#firstLog()
    } catch {
      return this.#firstLog()
    }
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }
}

/** Whether the next attempt may do better: a port taken since it was chosen, memory that a dying child still holds. */
function isPassing(error: unknown): boolean {
  return /pre-existing shared memory|could not bind|already in use|could not create any TCP|lock file/.test(
    String(error),
  )
}

// Enough for the last words, little enough for a log of any size.
const lastWordsBytes = 16 * 1024

function readFrom(file: string, offset: number): string {
  try {
    return readFileSync(file).subarray(offset).subarray(-lastWordsBytes).toString('utf8')
  } catch {
    return ''
  }
}
