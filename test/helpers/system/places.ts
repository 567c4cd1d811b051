import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, sep } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { processStartTime } from '#lib/processes.ts'

/** A directory of one test. Whatever runs in it or on a home in it ends with the test, even if that dies. */
export interface Place {
  root: string
  /** Ends every process of the place and removes it. */
  close(): Promise<void>
}

export interface Seen {
  pid: number
  command: string
}

/** Readable by everyone, so that the user whom the program becomes can reach it. */
export function openPlace(options: { owner?: { uid: number; gid: number }; name?: string } = {}): Place {
  const root = mkdtempSync(join(tmpdir(), `moonyetis-${options.name ?? 'system'}-`))
  chmodSync(root, 0o755)
  if (options.owner) chownSync(root, options.owner.uid, options.owner.gid)
  return guardPlace(root)
}

/** The same care for a directory that somebody else makes. */
export function guardPlace(root: string): Place {
  tellJanitor(`keep ${root}`)
  return {
    root,
    close: async () => {
      await sweep(root)
      tellJanitor(`done ${root}`)
    },
  }
}

/** Processes that work in `root`, on a home below it, or with it in their command line. */
export function processesOf(root: string): Seen[] {
  if (process.platform !== 'linux') return processesByPs(root)
  const seen: Seen[] = []
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isSafeInteger(pid) || pid === process.pid || !belongsTo(pid, root)) continue
    const command = read(pid, 'cmdline').replaceAll('\0', ' ').trim()
    if (processStartTime(pid) !== undefined) seen.push({ pid, command })
  }
  return seen
}

/** On macOS ps shows the environment too, and MOONYETIS_HOME with it. */
function processesByPs(root: string): Seen[] {
  const text = execFileSync('ps', ['-axEww', '-o', 'pid=,command='], { encoding: 'utf8' })
  return text
    .split('\n')
    .filter(line => line.includes(root))
    .map(line => line.trim())
    .map(line => ({ pid: Number.parseInt(line, 10), command: line.replace(/^\d+ +/, '') }))
    .filter(({ pid }) => pid !== process.pid)
}

/** Ends what runs there, PostgreSQL by its own immediate stop, then removes the directory. */
export async function sweep(root: string): Promise<void> {
  for (const one of processesOf(root)) signal(one.pid, lastSignal(one))
  const hurryAtMs = performance.now() + 5_000
  const giveUpAtMs = hurryAtMs + 10_000
  for (let left = processesOf(root); left.length > 0; left = processesOf(root)) {
    const now = performance.now()
    if (now > giveUpAtMs)
      throw new Error(`still running in ${root}: ${left.map(one => one.command).join('; ')}`)
    for (const one of left) {
      if (now > hurryAtMs || lastSignal(one) === 'SIGKILL') signal(one.pid, 'SIGKILL')
    }
    await delay(20)
  }
  if (!existsSync(root)) return
  for (const directory of socketDirectoriesOf(root)) rmSync(directory, { recursive: true, force: true })
  rmSync(root, { recursive: true, force: true, maxRetries: 5 })
}

// A killed postmaster would leave its shared memory behind; by SIGQUIT it ends its children and lets it go.
function lastSignal({ command }: Seen): NodeJS.Signals | 0 {
  if (/bin\/postgres( |$)/.test(command)) return 'SIGQUIT'
  return command.startsWith('postgres: ') ? 0 : 'SIGKILL'
}

function belongsTo(pid: number, root: string): boolean {
  const inside = (path: string) => path === root || path.startsWith(root + sep)
  try {
    if (inside(readlinkSync(`/proc/${pid}/cwd`))) return true
  } catch {
    // Gone, dead, or somebody else's.
    return false
  }
  if (read(pid, 'cmdline').includes(root)) return true
  const home = /(?:^|\0)MOONYETIS_HOME=([^\0]*)/.exec(read(pid, 'environ'))?.[1]
  return home !== undefined && inside(home)
}

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

function signal(pid: number, name: NodeJS.Signals | 0): void {
  try {
    process.kill(pid, name)
  } catch {
    // It went by itself.
  }
}

/** Homes with a long path keep their sockets elsewhere and write down where. */
function socketDirectoriesOf(root: string): string[] {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(name => {
    return name.endsWith(join('run', 'socket-directory')) && !name.includes('node_modules')
  })
  return names.map(name => readFileSync(join(root, name), 'utf8').trim())
}

let janitor: ChildProcess | undefined

// A test process that is killed cannot clean up; the janitor notices that its input ended.
function tellJanitor(line: string): void {
  janitor ??= startJanitor()
  janitor.stdin?.write(`${line}\n`)
}

function startJanitor(): ChildProcess {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const script = join(import.meta.dirname, 'janitor.ts')
  const child = spawn(process.execPath, [script], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    env,
  })
  child.unref()
  child.stdin.on('error', () => {})
  ;(child.stdin as Socket).unref()
  return child
}
