import {
  chownSync,
  closeSync,
  type FSWatcher,
  fchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  watch,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Log } from '#lib/log.ts'
import { clientScript, meeting, restoreCommand, usualPatience } from './wal-client.ts'

/** What a recovery reads. */
export interface WalSource {
  /**
   * The file of that name, checked; a segment at its full length, with zeros where nothing is known. Undefined when
   * there is none and none is needed: a hole is an error, as is everything else that keeps it from being read.
   */
  fetch(file: string): Promise<Buffer | undefined>
}

export interface WalServerOptions {
  /** Made here, on the file system of the data directory, and removed by close(). */
  directory: string
  source: WalSource
  /** Segments in the order of replay, to fetch ahead. */
  expected: readonly string[]
  /** The user that PostgreSQL runs as, when this process is root. */
  runAs?: { uid: number; gid: number } | undefined
  /** After each file that was handed out, with how many of the expected ones lie behind. */
  onServed?: (file: string, behind: number) => void
  /** How many looks without a sign of life the client takes for our death. */
  patience?: number
  log: Log
}

// Eight segments are 128 MB of disk and hide a fifth of a second of storage at 40 segments/s.
const aheadSegments = 8
const fetchesAtOnce = 3
// Many times in the patience of the client, also on a machine that stands still now and then.
const beatMs = 200
const fileName = /^([0-9A-F]{24}|[0-9A-F]{8}\.history)$/

/**
 * Hands the files of the write-ahead log to restore_command. A segment that is expected next lies ready before it is
 * asked for, so that asking is a rename. After the first trouble nothing is handed out any more.
 */
export class WalServer {
  readonly restoreCommand: string
  readonly #o: WalServerOptions
  readonly #order: ReadonlyMap<string, number>
  readonly #state = new Map<string, 'queued' | 'fetching' | 'ready'>()
  /** Files to fetch, those that are waited for first. */
  #queue: string[] = []
  readonly #fetches = new Set<Promise<void>>()
  readonly #watchers: FSWatcher[] = []
  #timer: NodeJS.Timeout | undefined
  #beatFd: number | undefined
  #beats = 0
  #behind = 0
  #failure: unknown
  #closed = false

  private constructor(options: WalServerOptions) {
    this.#o = options
    this.#order = new Map(options.expected.map((file, index) => [file, index]))
    this.restoreCommand = restoreCommand(join(options.directory, meeting.client))
  }

  static start(options: WalServerOptions): WalServer {
    const server = new WalServer(options)
    server.#open()
    return server
  }

  /** Why nothing is handed out any more. */
  get failure(): unknown {
    return this.#failure
  }

  /** How many of the expected segments were handed out. */
  get behind(): number {
    return this.#behind
  }

  /** A client that waits notices it at once. What is still being fetched is dropped when it comes. */
  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
    for (const watcher of this.#watchers) watcher.close()
    if (this.#beatFd !== undefined) closeSync(this.#beatFd)
    this.#beatFd = undefined
    rmSync(this.#o.directory, { recursive: true, force: true, maxRetries: 5 })
  }

  #open(): void {
    const { directory, patience = usualPatience } = this.#o
    this.#makeDirectory(directory)
    for (const name of [meeting.ready, meeting.absent, meeting.ask]) this.#makeDirectory(this.#path(name))
    this.#write(this.#path(meeting.client), clientScript(directory, patience))
    this.#beatFd = openSync(this.#path(meeting.beat), 'w', 0o600)
    if (this.#o.runAs) fchownSync(this.#beatFd, this.#o.runAs.uid, this.#o.runAs.gid)
    this.#beat()
    this.#timer = setInterval(() => this.#beat(), beatMs)
    for (const name of [meeting.ready, meeting.ask]) this.#watch(this.#path(name))
  }

  #watch(path: string): void {
    const watcher = watch(path, () => this.#look())
    // Without events the beat still looks.
    watcher.on('error', () => watcher.close())
    this.#watchers.push(watcher)
  }

  /** Written over the one before and as long as it, so that whoever reads finds a whole line. */
  #beat(): void {
    if (this.#beatFd === undefined) return
    this.#beats++
    writeSync(this.#beatFd, `${String(this.#beats).padStart(12, '0')}\n`, 0)
    this.#look()
  }

  #look(): void {
    if (this.#closed || this.#failure !== undefined) return
    try {
      const lying = new Set(readdirSync(this.#path(meeting.ready)))
      for (const [file, state] of this.#state) if (state === 'ready' && !lying.has(file)) this.#taken(file)
      for (const file of readdirSync(this.#path(meeting.ask))) this.#hear(file)
      for (const file of this.#o.expected.slice(this.#behind, this.#behind + aheadSegments))
        this.#want(file, false)
    } catch (error) {
      this.#fail(error)
    }
  }

  #taken(file: string): void {
    this.#state.delete(file)
    const index = this.#order.get(file)
    if (index !== undefined) this.#behind = Math.max(this.#behind, index + 1)
    this.#o.onServed?.(file, this.#behind)
  }

  #hear(file: string): void {
    rmSync(this.#path(meeting.ask, file), { force: true })
    // A backup history file, say: there is none.
    if (fileName.test(file)) this.#want(file, true)
    else this.#put(meeting.absent, file, '')
  }

  /** Fetches it unless that is under way or done. */
  #want(file: string, urgent: boolean): void {
    const state = this.#state.get(file)
    if (state === 'fetching' || state === 'ready' || (state === 'queued' && !urgent)) return
    this.#state.set(file, 'queued')
    const others = this.#queue.filter(one => one !== file)
    this.#queue = urgent ? [file, ...others] : [...others, file]
    this.#pump()
  }

  #pump(): void {
    while (this.#fetches.size < fetchesAtOnce && !this.#closed && this.#failure === undefined) {
      const file = this.#queue.shift()
      if (file === undefined) return
      const fetched = this.#fetch(file).finally(() => {
        this.#fetches.delete(fetched)
        this.#pump()
      })
      this.#fetches.add(fetched)
    }
  }

  async #fetch(file: string): Promise<void> {
    this.#state.set(file, 'fetching')
    try {
      const bytes = await this.#o.source.fetch(file)
      if (this.#closed || this.#failure !== undefined) return
      if (bytes) {
        this.#put(meeting.ready, file, bytes)
        this.#state.set(file, 'ready')
      } else {
        this.#state.delete(file)
        this.#put(meeting.absent, file, '')
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined || this.#closed) return
    this.#failure = error
    this.#o.log.error({ err: error }, 'the write-ahead log cannot be handed out')
    // What lies ready is right, but a recovery that cannot end well had better end now.
    rmSync(this.#path(meeting.ready), { recursive: true, force: true, maxRetries: 5 })
    this.#write(this.#path(meeting.failed), '')
  }

  /** Whole or not at all. */
  #put(kind: 'ready' | 'absent', file: string, bytes: Buffer | string): void {
    const incoming = this.#path(`.${file}`)
    this.#write(incoming, bytes)
    renameSync(incoming, this.#path(meeting[kind], file))
  }

  #write(path: string, bytes: Buffer | string): void {
    const { runAs } = this.#o
    writeFileSync(path, bytes, { mode: 0o600 })
    if (runAs) chownSync(path, runAs.uid, runAs.gid)
  }

  #makeDirectory(path: string): void {
    const { runAs } = this.#o
    mkdirSync(path, { mode: 0o700 })
    if (runAs) chownSync(path, runAs.uid, runAs.gid)
  }

  #path(...names: string[]): string {
    return join(this.#o.directory, ...names)
  }
}
