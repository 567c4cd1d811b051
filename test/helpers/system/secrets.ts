import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { processesOf } from './places.ts'

/** What must be found nowhere: a name for people, and the forms it may have. */
export interface Secret {
  name: string
  forms: Buffer[]
}

// Shorter ones are found by chance.
const shortestBytes = 12

/** Every secret value of a home: files of .secrets but the public key, and the data keys. */
export function secretsOf(home: string): Secret[] {
  const directory = join(home, '.secrets')
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map(name => ({ name, path: join(directory, name) }))
    .filter(({ name, path }) => name !== 'backup_recipient' && lstatSync(path).isFile())
  const values = files.flatMap(({ name, path }) =>
    linesOf(readFileSync(path, 'utf8')).map(text => ({ name, text })),
  )
  return [...values.map(({ name, text }) => secret(name, text)), ...dataKeysOf(home)]
}

export function secret(name: string, text: string): Secret {
  const forms = [Buffer.from(text), Buffer.from(text, 'base64'), Buffer.from(text, 'hex')]
  return { name, forms: forms.filter(form => form.length >= shortestBytes) }
}

/** A session: the token itself, and what the database keeps of it. */
export function tokenSecret(token: string): Secret {
  const digest = createHash('sha256').update(token).digest()
  return { name: 'a session token', forms: [Buffer.from(token), digest, Buffer.from(digest.toString('hex'))] }
}

// The beginning of what pg_authid holds.
export const passwordHashes: Secret = { name: 'a password hash', forms: [Buffer.from('SCRAM-SHA-256$')] }

export interface FilesSeen {
  leaks: string[]
  files: number
  bytes: number
}

/** Looks through every file below `directory` for which `wanted` is true, given its path there. */
export function leaksInFiles(
  directory: string,
  secrets: readonly Secret[],
  wanted: (path: string) => boolean = () => true,
): FilesSeen {
  const seen: FilesSeen = { leaks: [], files: 0, bytes: 0 }
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const path = join(directory, name)
    if (!wanted(name) || !lstatSync(path).isFile()) continue
    const bytes = readFileSync(path)
    seen.files++
    seen.bytes += bytes.length
    seen.leaks.push(...foundIn(bytes, secrets).map(found => `${found} in ${path}`))
  }
  return seen
}

// Each process lives for a second or more, and a look at all of /proc costs some milliseconds.
const betweenLooksMs = 150

/** Looks at command lines and environments of all that runs in a place, again and again until `work` has ended. */
export async function leaksInProcesses(
  place: string,
  secrets: readonly Secret[],
  work: Promise<unknown>,
): Promise<{ leaks: string[]; processes: number }> {
  const leaks = new Set<string>()
  const pids = new Set<number>()
  let isOver = false
  const over = () => {
    isOver = true
  }
  work.then(over, over)
  while (!isOver) {
    for (const { pid, command } of processesOf(place)) {
      pids.add(pid)
      for (const file of ['cmdline', 'environ'])
        for (const found of foundIn(read(pid, file), secrets)) leaks.add(`${found} in ${file} of ${command}`)
    }
    await delay(betweenLooksMs)
  }
  return { leaks: [...leaks], processes: pids.size }
}

function foundIn(bytes: Buffer, secrets: readonly Secret[]): string[] {
  return secrets.filter(({ forms }) => forms.some(form => bytes.includes(form))).map(({ name }) => name)
}

function linesOf(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map(line => line.trim())
    .filter(line => line.length >= shortestBytes && !/^(#|-----)/.test(line))
}

/** As raw bytes, and as they could have been printed. */
function dataKeysOf(home: string): Secret[] {
  const directory = join(home, 'state', 'backup-keys')
  return readdirSync(directory).map(id => {
    const bytes = readFileSync(join(directory, id))
    const printed = (['hex', 'base64'] as const).map(encoding => Buffer.from(bytes.toString(encoding)))
    return { name: `data key ${id}`, forms: [bytes, ...printed] }
  })
}

function read(pid: number, file: string): Buffer {
  try {
    return readFileSync(`/proc/${pid}/${file}`)
  } catch {
    return Buffer.alloc(0)
  }
}
