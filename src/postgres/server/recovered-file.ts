import { randomUUID } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { syncDirectory, writeDurably } from '#lib/home.ts'

/** Says that the data directory came from a restore, or from anything else that may lack acknowledged commits. */
export interface RecoveredFacts {
  /** UUID; the same one begins the recovery once only. */
  id: string
  /** RFC 3339. */
  at: string
  /** In words: `backup restore`, `failover`. */
  cause: string
  /** In words: a time, an LSN, a named point, `the end of the archive`. */
  target: string
  backupId?: string
}

/**
 * To be written before the server is started for the first time: as long as the file is there, the application finds no
 * way in, so that no spin is taken before the recovery has begun.
 */
export function writeRecoveredFile(dataDirectory: string, facts: RecoveredFacts): void {
  writeDurably(pathOf(dataDirectory), `${JSON.stringify(facts)}\n`)
}

/** Undefined when there is none. One that cannot be understood still stands for a recovery: that is the safe reading. */
export function readRecoveredFile(dataDirectory: string): RecoveredFacts | undefined {
  const text = readIfThere(pathOf(dataDirectory))
  if (text === undefined) return undefined
  return parse(text) ?? { ...unreadable, id: randomUUID(), at: new Date().toISOString() }
}

/** Durable: it does not come back with a power cut. */
export function removeRecoveredFile(dataDirectory: string): void {
  rmSync(pathOf(dataDirectory), { force: true })
  syncDirectory(dataDirectory)
}

const unreadable = { cause: 'a restore whose marker cannot be read', target: 'unknown' }

function pathOf(dataDirectory: string): string {
  return join(dataDirectory, 'moonyetis.recovered.json')
}

function parse(text: string): RecoveredFacts | undefined {
  try {
    const facts = JSON.parse(text) as RecoveredFacts
    const isUuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(facts.id)
    return isUuid && [facts.at, facts.cause, facts.target].every(one => typeof one === 'string')
      ? facts
      : undefined
  } catch {
    return undefined
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
