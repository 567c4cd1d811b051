import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { processStartTime } from '#lib/processes.ts'
import { postgresServerError } from './errors.ts'
import { type PidFile, pidFilePath, readLockFile, readPidFile } from './pid-file.ts'

/** A live postmaster, named for good by pid and start time. */
export interface Postmaster {
  pid: number
  startTime: string
}

/** What can be seen of a process from outside; undefined is not seen, not absent. */
export interface ProcessSight {
  startTime: string | undefined
  /** Name of its program, such as `postgres`. */
  program: string | undefined
  /** Its working directory; a postmaster and all its children stay in the data directory. */
  workingDirectory: string | undefined
}

/**
 * ours: a live PostgreSQL on this directory. dead: nobody has the pid. stranger: the pid was given to something that
 * is proved not to be PostgreSQL on this directory. unclear: no proof either way.
 */
export type PostmasterVerdict = 'dead' | 'ours' | 'stranger' | 'unclear'

/** Decides whose pid a postmaster.pid holds. `dataDirectory` is a real path. */
export function judgePostmaster(sight: ProcessSight, dataDirectory: string): PostmasterVerdict {
  if (sight.startTime === undefined) return 'dead'
  if (sight.program !== undefined && sight.program !== 'postgres') return 'stranger'
  if (sight.workingDirectory === undefined) return 'unclear'
  if (sight.workingDirectory !== dataDirectory) return 'stranger'
  return sight.program === 'postgres' ? 'ours' : 'unclear'
}

/** The live postmaster of the directory; undefined when there is none. Throws POSTGRES_DIRECTORY_IN_USE if unclear. */
export function findPostmaster(dataDirectory: string): (Postmaster & { file: PidFile }) | undefined {
  const file = readPidFile(dataDirectory)
  if (!file) return undefined
  const sight = look(file.pid)
  const verdict = judgePostmaster(sight, realpathSync(dataDirectory))
  if (verdict === 'unclear') {
    const reason = `postmaster.pid names it and it belongs to another user (${sight.program ?? 'program unknown'})`
    throw postgresServerError('POSTGRES_DIRECTORY_IN_USE', { pid: file.pid, dataDirectory, reason })
  }
  return verdict === 'ours' ? { pid: file.pid, startTime: sight.startTime as string, file } : undefined
}

export function isPostmasterAlive(postmaster: Postmaster): boolean {
  return processStartTime(postmaster.pid) === postmaster.startTime
}

// A killed process goes within milliseconds unless it waits in the kernel for a disk.
const leftoversGoneWithinMs = 15_000
const pollMs = 10

/**
 * After the postmaster is proved dead: ends its orphaned children, which would block the next start by holding the
 * shared memory, and removes a postmaster.pid whose number now belongs to a stranger, which PostgreSQL would take for a
 * running server. Returns how many processes were ended. Throws POSTGRES_STUCK.
 */
export async function clearTheWay(dataDirectory: string): Promise<number> {
  if (findPostmaster(dataDirectory)) return 0
  const ended = await endLeftovers(dataDirectory)
  const file = readPidFile(dataDirectory)
  if (file && blocksStart(file)) rmSync(pidFilePath(dataDirectory), { force: true })
  return ended
}

/** The same for the lock of its socket, which would block a start on this port. */
export function clearSocketLock(socketDirectory: string, port: number): void {
  const socket = join(socketDirectory, `.s.PGSQL.${port}`)
  const file = readLockFile(`${socket}.lock`)
  if (!file || !blocksStart(file)) return
  rmSync(socket, { force: true })
  rmSync(`${socket}.lock`, { force: true })
}

/**
 * Whether PostgreSQL, which only asks if the number exists, would wrongly take it for a running server. A number that
 * nobody has stays in its file: PostgreSQL's own check then also covers shared memory, which we cannot see.
 */
function blocksStart(file: PidFile): boolean {
  const verdict = judgePostmaster(look(file.pid), realPath(file.dataDirectory))
  // A dead process that its parent has not collected still answers.
  return verdict === 'stranger' || (verdict === 'dead' && sendSignal(file.pid, 0))
}

/** Kills every PostgreSQL process whose working directory is the data directory. */
export async function endLeftovers(dataDirectory: string): Promise<number> {
  const ended = new Set<number>()
  const untilMs = performance.now() + leftoversGoneWithinMs
  for (;;) {
    const pids = processesOn(dataDirectory)
    if (pids.length === 0) return ended.size
    if (performance.now() > untilMs) throw postgresServerError('POSTGRES_STUCK', { pids, dataDirectory })
    for (const pid of pids) {
      ended.add(pid)
      sendSignal(pid, 'SIGKILL')
    }
    await delay(pollMs)
  }
}

/** Live PostgreSQL processes of the directory, postmaster included. */
export function processesOn(dataDirectory: string): number[] {
  const directory = realpathSync(dataDirectory)
  return candidates().filter(pid => {
    const sight = look(pid)
    return (
      sight.startTime !== undefined && sight.program === 'postgres' && sight.workingDirectory === directory
    )
  })
}

/** Those among them that send WAL to a receiver. */
export function sendersOn(dataDirectory: string): number[] {
  return processesOn(dataDirectory).filter(pid => /^postgres: .*\bwalsender\b/.test(titleOf(pid) ?? ''))
}

/** False when the process is gone. Signal 0 only asks. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ESRCH' || (code === 'EPERM' && signal === 0)) return false
    throw error
  }
}

function look(pid: number): ProcessSight {
  const startTime = processStartTime(pid)
  if (startTime === undefined) return { startTime, program: undefined, workingDirectory: undefined }
  return { startTime, program: programOf(pid), workingDirectory: workingDirectoryOf(pid) }
}

function candidates(): number[] {
  if (process.platform !== 'linux')
    return listed('ps', ['-axo', 'pid='])
      .map(Number)
      .filter(pid => pid > 0)
  return readdirSync('/proc')
    .map(Number)
    .filter(pid => pid > 0 && programOf(pid) === 'postgres')
}

function programOf(pid: number): string | undefined {
  if (process.platform !== 'linux') {
    const [command] = listed('ps', ['-o', 'comm=', '-p', String(pid)])
    // A child's title starts with `postgres:`.
    return command === undefined ? undefined : basename(command.trim().split(':')[0] as string)
  }
  return unlessGone(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim())
}

/** What a PostgreSQL process calls itself: `postgres: node-a: walsender moonyetis_replication [local] streaming 0/3000000`. */
function titleOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return listed('ps', ['-o', 'command=', '-p', String(pid)])[0]
  return unlessGone(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim())
}

function workingDirectoryOf(pid: number): string | undefined {
  if (process.platform === 'linux') return unlessGone(() => readlinkSync(`/proc/${pid}/cwd`))
  return listed('lsof', ['-a', '-d', 'cwd', '-p', String(pid), '-Fn'])
    .find(line => line.startsWith('n'))
    ?.slice(1)
}

function listed(program: string, args: string[]): string[] {
  const run = () => execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return (unlessGone(run) ?? '').split('\n').filter(line => line !== '')
}

function realPath(path: string): string {
  return unlessGone(() => realpathSync(path)) ?? path
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    // The process ended meanwhile, or belongs to a user whose processes we may not inspect.
    return undefined
  }
}
