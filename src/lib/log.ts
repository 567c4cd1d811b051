import { closeSync, openSync, renameSync, writeSync } from 'node:fs'
import pino from 'pino'

export type Log = pino.Logger

export interface LogOptions {
  role: string
  level: string
  /** Where lines go instead of standard output; for tests. */
  destination?: pino.DestinationStream
  /** Where lines go once standard output is gone: a role outlives the `up` that read its pipe. */
  fallbackFile?: string
}

// Depth two covers `{ token }`, `{ body: { token } }` and `{ request: { headers: { cookie } } }`.
const secretNames = ['token', 'authorization', 'cookie', 'password', 'serverSeed', 'setCookie']
const redactedPaths = secretNames.flatMap(name => [name, `*.${name}`, `*.*.${name}`])

/** JSON lines `{level, time, role, pid, msg, ...facts}` on standard output, secrets masked by key name. */
export function createLog(options: LogOptions): Log {
  return pino(
    {
      level: options.level,
      base: { role: options.role, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: redactedPaths, censor: '[redacted]' },
    },
    options.destination ?? standardOutput(options.fallbackFile),
  )
}

export const silentLog: Log = pino({ level: 'silent' })

/**
 * Writes are synchronous so that the last words of a dying process are not lost. A reader that is gone (EPIPE) or
 * stands still (EAGAIN) costs log lines at most, never the process.
 */
function standardOutput(fallbackFile: string | undefined): pino.DestinationStream {
  const fallback = fallbackFile === undefined ? undefined : appendTo(fallbackFile)
  let broken = false
  return {
    write(line: string) {
      if (!broken && writeAll(1, Buffer.from(line)) === 'gone') broken = true
      if (broken) fallback?.(line)
    },
  }
}

// A stalled reader may hold us this long per line, in steps short enough to notice when it wakes.
const stalledStepMs = 5
const stalledSteps = 20
const sleeper = new Int32Array(new SharedArrayBuffer(4))

function writeAll(fd: number, bytes: Buffer): 'written' | 'dropped' | 'gone' {
  let offset = 0
  let waits = 0
  while (offset < bytes.length) {
    try {
      offset += writeSync(fd, bytes, offset)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return 'gone'
      if (waits++ >= stalledSteps) return 'dropped'
      Atomics.wait(sleeper, 0, 0, stalledStepMs)
    }
  }
  return 'written'
}

// One older file is kept beside it, so an orphan that nobody rotates holds at most twice this.
const fallbackLimitBytes = 16 * 1024 * 1024

function appendTo(path: string): (line: string) => void {
  let fd: number | undefined
  let written = 0
  return line => {
    try {
      if (fd !== undefined && written > fallbackLimitBytes) {
        closeSync(fd)
        fd = undefined
        renameSync(path, `${path}.1`)
        written = 0
      }
      fd ??= openSync(path, 'a', 0o600)
      written += writeSync(fd, line)
    } catch {
      // A log that cannot be written has no better place to say so.
    }
  }
}
