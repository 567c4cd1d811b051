import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RunAs } from '#postgres/server/data-directory.ts'

/** What a command and all its descendants have spent. */
export interface Spent {
  seconds: number
  cpuSeconds: number
  /** The peaks of all its processes together. */
  peakMegabytes: number
  /** What it printed, at most 1 MB. */
  output: string
}

const living = new Set<ChildProcess>()
// Short beside the shortest command, long beside a look, which takes a fraction of a millisecond.
const lookEveryMs = 50
const mostOutput = 1_000_000
const graceMs = 10_000

// The shell knows the CPU of all that was waited for below it; a process itself cannot be asked any more when it is gone.
const counting = '"$@" 3>&-; code=$?; times >&3; exit $code'

/** Runs a command and measures it; the processes below it count too. Rejects with its last words when it fails. */
export async function measured(command: readonly string[], runAs: RunAs | undefined): Promise<Spent> {
  const beganMs = performance.now()
  const child = start(['/bin/sh', '-c', counting, 'sh', ...command], runAs)
  const [output, errors, times] = [1, 2, 3].map(fd => collect(child.stdio[fd] as NodeJS.ReadableStream))
  const peaks = new Map<number, number>()
  const timer = setInterval(() => lookAt(child.pid as number, peaks), lookEveryMs)
  const [code] = await once(child, 'close').finally(() => clearInterval(timer))
  const seconds = (performance.now() - beganMs) / 1000
  if (code !== 0)
    throw new Error(`${command[0]} ended with ${code}:\n${errors?.()}${output?.()}`.slice(-4000))
  const peakMegabytes = [...peaks.values()].reduce((sum, one) => sum + one, 0) / 1024
  return { seconds, cpuSeconds: readTimes(times?.() ?? ''), peakMegabytes, output: output?.() ?? '' }
}

/** Runs a command that is not measured. */
export async function run(command: readonly string[], runAs: RunAs | undefined): Promise<string> {
  return (await measured(command, runAs)).output
}

/** A process that goes on, in a group of its own: Ctrl-C reaches only us, and we end it. */
export function start(command: readonly string[], runAs: RunAs | undefined): ChildProcess {
  const [program = '', ...rest] = command
  const stdio = ['ignore', 'pipe', 'pipe', 'pipe'] as const
  const env = { ...process.env, NODE_COMPILE_CACHE: compileCache() }
  const child = spawn(program, rest, { ...runAs, env, cwd: '/', detached: true, stdio: [...stdio] })
  living.add(child)
  child.once('close', () => living.delete(child))
  return child
}

let cache: string | undefined

/** As in a home, where the program keeps its compiled code from one start to the next (src/main.ts). */
function compileCache(): string {
  if (cache) return cache
  const directory = mkdtempSync(join(tmpdir(), 'moonyetis-bench-cache-'))
  chmodSync(directory, 0o777)
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  cache = directory
  return directory
}

/** Ends a process and those it started. */
export async function end(child: ChildProcess): Promise<void> {
  if (!living.has(child)) return
  const closed = once(child, 'close')
  signal(child, 'SIGTERM')
  const timer = setTimeout(() => signal(child, 'SIGKILL'), graceMs)
  await closed
  clearTimeout(timer)
}

export async function endAll(): Promise<void> {
  await Promise.all([...living].map(end))
}

/** CPU of a process in seconds; with `waitedFor` also that of its children that have ended. */
export function cpuSeconds(pid: number, o: { waitedFor?: boolean } = {}): number {
  const fields = readProc(pid, 'stat')?.split(') ')[1]?.split(' ') ?? []
  // utime, stime, cutime, cstime of proc(5), in ticks of 10 ms.
  const ticks = fields.slice(11, o.waitedFor ? 15 : 13).map(Number)
  return ticks.reduce((sum, one) => sum + one, 0) / 100
}

export function peakMegabytes(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readProc(pid, 'status') ?? '')?.[1] ?? Number.NaN) / 1024
}

/** Only of its main thread, which is the one that starts processes in the programs here. */
export function childrenOf(pid: number): number[] {
  return (readProc(pid, `task/${pid}/children`) ?? '').split(' ').filter(Boolean).map(Number)
}

function lookAt(pid: number, peaks: Map<number, number>): void {
  for (const child of childrenOf(pid)) {
    const kilobytes = peakMegabytes(child) * 1024
    if (kilobytes > (peaks.get(child) ?? 0)) peaks.set(child, kilobytes)
    lookAt(child, peaks)
  }
}

/** The second line of `times` is of the children: `0m1.230000s 0m0.450000s`. */
function readTimes(text: string): number {
  const parts = [...(text.trim().split('\n')[1] ?? '').matchAll(/(\d+)m([\d.]+)s/g)]
  return parts.reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0)
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = ''
  stream.on('data', chunk => {
    if (text.length < mostOutput) text += String(chunk)
  })
  return () => text
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  try {
    process.kill(-(child.pid as number), name)
  } catch {
    // It has ended meanwhile.
  }
}

function readProc(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch {
    return undefined
  }
}
