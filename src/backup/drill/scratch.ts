import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { isAlive, type ProcessRecord, processStartTime } from '#lib/processes.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'
import { stopPostmaster } from '#postgres/server/stop.ts'

/** A directory that a restored server lives in for some minutes. */
export interface Scratch {
  directory: string
  dataDirectory: string
  tablespaceDirectory: string
  logDirectory: string
}

const prefix = 'drill-'
const ownerName = 'owner.json'

/** Makes a new directory below `root`. */
export function makeScratch(root: string, runAs: RunAs | undefined): Scratch {
  makeOwned(root, runAs)
  const directory = join(root, `${prefix}${randomBytes(6).toString('hex')}`)
  makeOwned(directory, runAs)
  const owner: ProcessRecord = {
    pid: process.pid,
    startTime: processStartTime(process.pid) ?? '',
    name: 'drill',
  }
  writeFileSync(join(directory, ownerName), JSON.stringify(owner))
  return placesIn(directory)
}

/** Ends and removes what drills left that were killed. Returns how many there were. */
export async function clearScratch(root: string, log: Log, clock: Clock): Promise<number> {
  const names = existsSync(root) ? readdirSync(root).filter(name => name.startsWith(prefix)) : []
  const left = names.map(name => join(root, name)).filter(directory => !isInUse(directory))
  for (const directory of left) await removeScratch(placesIn(directory), log, clock)
  return left.length
}

/** Proves that no server runs in it, then removes it. */
export async function removeScratch(scratch: Scratch, log: Log, clock: Clock): Promise<void> {
  const { dataDirectory, directory } = scratch
  await stopPostmaster({ dataDirectory, mode: 'immediate', withinMs: 10_000, log, clock })
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
}

function placesIn(directory: string): Scratch {
  return {
    directory,
    dataDirectory: join(directory, 'data'),
    tablespaceDirectory: join(directory, 'tablespaces'),
    logDirectory: join(directory, 'logs'),
  }
}

function isInUse(directory: string): boolean {
  try {
    return isAlive(JSON.parse(readFileSync(join(directory, ownerName), 'utf8')) as ProcessRecord)
  } catch {
    // Killed before it could say who it is.
    return false
  }
}

function makeOwned(path: string, runAs: RunAs | undefined): void {
  // What is restored holds everything that the database holds.
  const made = mkdirSync(path, { recursive: true, mode: 0o700 })
  if (made !== undefined && runAs) chownSync(path, runAs.uid, runAs.gid)
}
