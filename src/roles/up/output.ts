import { join } from 'node:path'
import type { Writable } from 'node:stream'
import type { Clock } from '#lib/clock.ts'
import { formatForPeople, isTrouble, parseLogLine } from './log-line.ts'
import { RotatingFile } from './rotating-file.ts'

// What waits for a terminal that stands still (Ctrl-S, a stopped pager); beyond it lines go to the files alone.
const consoleQueueBytes = 1024 * 1024
const logLimitBytes = 10 * 1024 * 1024
const logFiles = 5

/** Where the lines of all roles go: everything to server.log, trouble also to error.log, and to the console. */
export class Output {
  readonly #console: Writable | undefined
  readonly #clock: Clock
  readonly #all: RotatingFile
  readonly #trouble: RotatingFile
  #notShown = 0

  /** Without a console (--json) only the files are written. */
  constructor(options: { logs: string; console: Writable | undefined; clock: Clock }) {
    this.#console = options.console
    this.#clock = options.clock
    this.#all = logFile(options.logs, 'server.log')
    this.#trouble = logFile(options.logs, 'error.log')
  }

  /** Takes one line of a role; `level` is that of text which is no log line of its own. */
  line(role: string, text: string, level = 'info'): void {
    const line = parseLogLine(role, text, { level, time: this.#clock.now().toISOString() })
    this.#all.write(line.json)
    if (isTrouble(line)) this.#trouble.write(line.json)
    this.#show(formatForPeople(line))
  }

  close(): void {
    this.#all.close()
    this.#trouble.close()
  }

  // Writing never waits: a role blocks when nobody reads its lines, so a stalled console must not stall their reader.
  #show(text: string): void {
    const console = this.#console
    if (!console || console.destroyed) return
    if (console.writableLength > consoleQueueBytes) {
      this.#notShown++
      return
    }
    if (this.#notShown > 0)
      console.write(`up        | ${this.#notShown} lines were not shown here, server.log has them\n`)
    this.#notShown = 0
    console.write(`${text}\n`)
  }
}

function logFile(directory: string, name: string): RotatingFile {
  return new RotatingFile({ path: join(directory, name), limitBytes: logLimitBytes, keep: logFiles })
}
