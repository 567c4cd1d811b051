import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { adoptOwner, writeDurably } from '#lib/home.ts'
import { processStartTime } from '#lib/processes.ts'
import { archiveError } from './errors.ts'

interface Owner {
  pid: number
  startTime: string
  /** As in the lease. */
  holder: string
  since: string
}

// Whoever holds the lock only reads and writes one small file.
const lockWithinMs = 5_000

/**
 * Makes this process the one that writes into the spool; answers under which name the one before it held the lease. Of
 * two that come at once, one gets it.
 * @throws ARCHIVE_ELSEWHERE while that one lives
 */
export function claimSpool(directory: string, o: { holder: string; now: Date }): string | undefined {
  return underLock(join(directory, 'owner.lock'), () => {
    const path = join(directory, 'owner')
    const before = readOwner(path)
    if (before && before.pid !== process.pid && processStartTime(before.pid) === before.startTime)
      throw archiveError('ARCHIVE_ELSEWHERE', { holder: before.holder, since: before.since })
    const startTime = processStartTime(process.pid) ?? ''
    const owner: Owner = { pid: process.pid, startTime, holder: o.holder, since: o.now.toISOString() }
    writeDurably(path, JSON.stringify(owner))
    return before?.holder
  })
}

/** The lock is SQLite's: the kernel drops it when its holder dies, so it needs no clean-up after kill -9. */
function underLock<T>(path: string, work: () => T): T {
  const database = new DatabaseSync(path, { timeout: lockWithinMs })
  try {
    adoptOwner(path)
    database.exec('BEGIN EXCLUSIVE')
    return work()
  } finally {
    database.close()
  }
}

function readOwner(path: string): Owner | undefined {
  try {
    const owner = JSON.parse(readFileSync(path, 'utf8')) as Partial<Owner>
    return typeof owner.pid === 'number' && typeof owner.holder === 'string' ? (owner as Owner) : undefined
  } catch {
    // Not there, or not written to its end by an earlier owner that is gone.
    return undefined
  }
}
