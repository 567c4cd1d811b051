import { execFile, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Window } from './load.ts'
import type { World } from './world.ts'

const run = promisify(execFile)
const programRoot = join(import.meta.dirname, '..', '..')

export function findWrk(): string | undefined {
  return (process.env.PATH ?? '')
    .split(':')
    .map(directory => `${directory}/wrk`)
    .find(existsSync)
}

export interface HttpServer {
  url: string
  pid: number
  close(): Promise<void>
}

/** The real serve role, a process of its own, on the database of the bench. */
export async function startServe(world: World): Promise<HttpServer> {
  const home = mkdtempSync(join(tmpdir(), 'moonyetis-bench-'))
  mkdirSync(join(home, '.secrets', 'seed_keys'), { recursive: true, mode: 0o700 })
  writeFileSync(join(home, '.secrets', 'seed_keys', 'k1'), `${world.keyHex}\n`, { mode: 0o600 })
  // As root this home must belong to the user that the database server knows.
  const unprivileged = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  for (const part of ['', '.secrets', '.secrets/seed_keys', '.secrets/seed_keys/k1']) {
    if (unprivileged.uid) chownSync(join(home, part), unprivileged.uid, unprivileged.gid)
  }
  const { host, port, user, database } = world.database.target('app')
  const child = spawn(process.execPath, [join(programRoot, 'src', 'main.ts'), 'serve'], {
    ...unprivileged,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      PORT: '0',
      MOONYETIS_HOME: home,
      MOONYETIS_TOPOLOGY: 'external',
      DATABASE_URL: `postgresql://${user}@${encodeURIComponent(host)}:${port}/${database}`,
    },
  })
  // A bench that fails half way must not leave its server behind.
  const killNow = () => child.kill('SIGKILL')
  process.once('exit', killNow)
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const close = async () => {
    child.kill('SIGTERM')
    await exited
    process.off('exit', killNow)
    rmSync(home, { recursive: true, force: true })
  }
  const listening = await firstMatch(child.stdout, /"port":(\d+),"msg":"listening"/)
  const url = `http://127.0.0.1:${listening}`
  while (!(await fetch(`${url}/readyz`)).ok) await new Promise(resolve => setTimeout(resolve, 50))
  return { url, pid: child.pid as number, close }
}

/** wrk, one thread: each request is a spin of a random player under a fresh key. */
export async function wrk(
  program: string,
  world: World,
  server: HttpServer,
  o: { connections: number; seconds: number },
): Promise<Window & { errors: number }> {
  const directory = mkdtempSync(join(tmpdir(), 'moonyetis-wrk-'))
  const script = join(directory, 'spin.lua')
  const tokens = world.players.http.map(player => `"${player.token}"`)
  writeFileSync(script, lua(tokens))
  try {
    const { stdout } = await run(program, [
      '-t1',
      `-c${o.connections}`,
      `-d${o.seconds}s`,
      '--latency',
      '--timeout',
      '10s',
      '-s',
      script,
      `${server.url}/api/game/spin`,
    ])
    return readReport(stdout)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function lua(tokens: readonly string[]): string {
  return `
local tokens = {${tokens.join(',')}}
local run, sent = tostring(math.random(1e9)) .. os.time(), 0
math.randomseed(os.time())
request = function()
  sent = sent + 1
  return wrk.format("POST", nil, {
    ["authorization"] = "Bearer " .. tokens[math.random(#tokens)],
    ["content-type"] = "application/json",
    ["idempotency-key"] = run .. "-" .. sent
  }, '{"stakePerLine":"1","lines":10}')
end`
}

function readReport(text: string): Window & { errors: number } {
  const ms = (pattern: RegExp) => {
    const [, value, unit] = pattern.exec(text) ?? []
    return Number(value) * ({ us: 0.001, ms: 1, s: 1000 }[unit ?? ''] ?? Number.NaN)
  }
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p50Ms: ms(/50%\s+([\d.]+)(us|ms|s)/),
    p99Ms: ms(/99%\s+([\d.]+)(us|ms|s)/),
    operations: Number(/(\d+) requests in/.exec(text)?.[1]),
    errors: Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0),
  }
}

function firstMatch(stream: NodeJS.ReadableStream, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    stream.on('data', chunk => {
      if (text.length > 1_000_000) return
      text += String(chunk)
      const found = pattern.exec(text)?.[1]
      if (found) resolve(found)
    })
    stream.on('end', () => reject(new Error(`the server ended before it listened:\n${text}`)))
  })
}
