import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { libFailure } from './errors.ts'
import { type Home, writeDurably } from './home.ts'

/** A pid alone may have been given to a stranger since; pid + start time names one process for good. */
export interface ProcessRecord {
  pid: number
  /** Opaque: compare it only with another start time of this machine. */
  startTime: string
  name: string
}

/** Undefined when there is no such process or it is dead and not yet reaped. */
export function processStartTime(pid: number): string | undefined {
  return process.platform === 'linux' ? startTimeFromProc(pid) : startTimeFromPs(pid)
}

/** Writes run/NAME.pid.json. Throws when the process is already gone. */
export function writeRecord(home: Home, name: string, pid: number): ProcessRecord {
  const startTime = processStartTime(pid)
  if (startTime === undefined) throw new Error(`process ${pid} (${name}) ended before it could be recorded`)
  const record = { pid, startTime, name }
  writeDurably(recordPath(home, name), JSON.stringify(record))
  return record
}

/** Undefined when there is no record, or one that a crash left unreadable. */
export function readRecord(home: Home, name: string): ProcessRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(recordPath(home, name), 'utf8')) as Partial<ProcessRecord>
    const { pid, startTime } = record
    if (!Number.isSafeInteger(pid) || (pid as number) < 1 || typeof startTime !== 'string') return undefined
    return { pid: pid as number, startTime, name }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined
    throw error
  }
}

export function removeRecord(home: Home, name: string): void {
  rmSync(recordPath(home, name), { force: true })
}

export function isAlive(record: ProcessRecord): boolean {
  return processStartTime(record.pid) === record.startTime
}

// There is no event for the end of a process that is not our child; this is how often we look.
const pollMs = 25
// A killed process goes at once unless it waits in the kernel; then nobody can help.
const killedWithinMs = 10_000

/**
 * SIGTERM (or `signal`), then SIGKILL after `graceMs`. Never signals a stranger who got the same pid.
 * Throws PROCESS_STUCK when even SIGKILL does not end it.
 */
export async function terminate(
  record: ProcessRecord,
  options: { graceMs: number; signal?: NodeJS.Signals },
): Promise<'gone' | 'terminated' | 'killed'> {
  if (!signalIfAlive(record, options.signal ?? 'SIGTERM')) return 'gone'
  if (await goneWithin(record, options.graceMs)) return 'terminated'
  if (!signalIfAlive(record, 'SIGKILL')) return 'terminated'
  if (await goneWithin(record, killedWithinMs)) return 'killed'
  throw libFailure('PROCESS_STUCK', { name: record.name, pid: record.pid })
}

function signalIfAlive(record: ProcessRecord, signal: NodeJS.Signals): boolean {
  if (!isAlive(record)) return false
  try {
    process.kill(record.pid, signal)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}

async function goneWithin(record: ProcessRecord, ms: number): Promise<boolean> {
  const untilMs = performance.now() + ms
  while (isAlive(record)) {
    if (performance.now() >= untilMs) return false
    await delay(pollMs)
  }
  return true
}

function recordPath(home: Home, name: string): string {
  return join(home.run, `${name}.pid.json`)
}

// proc_pid_stat(5): the name in field 2 may hold spaces and brackets, so counting starts after the last bracket.
function startTimeFromProc(pid: number): string | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const state = fields[0]
  const ticksSinceBoot = fields[19]
  if (state === 'Z' || state === 'X' || ticksSinceBoot === undefined) return undefined
  return `${bootId()}:${ticksSinceBoot}`
}

// Ticks start anew at each boot, so a record that outlived a reboot could name a stranger.
let knownBootId: string | undefined
function bootId(): string {
  knownBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8)
  return knownBootId
}

function startTimeFromPs(pid: number): string | undefined {
  try {
    const options = {
      encoding: 'utf8',
      stdio: 'pipe',
      env: { LC_ALL: 'C', PATH: '/usr/bin:/bin' },
    } as const
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], options).trim()
    const [state, ...started] = line.split(/\s+/)
    return state === undefined || state.startsWith('Z') || started.length === 0
      ? undefined
      : started.join(' ')
  } catch {
    return undefined
  }
}
