import { systemClock } from '#lib/clock.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { isAlive, readRecord, removeRecord, terminate } from '#lib/processes.ts'
import { dataDirectoryOf } from '#postgres/server/places.ts'
import { sendSignal } from '#postgres/server/postmaster.ts'
import { type StopMode, stopPostmaster } from '#postgres/server/stop.ts'

// In this order, so that nobody waits for a part that is already gone.
export const roleNames = ['serve', 'archive', 'supervise'] as const
export type RoleName = (typeof roleNames)[number]

/** Requests in flight get the time they would get at an orderly stop. */
const graceMs = 15_000

/**
 * Stops what an earlier `up` left behind when it was killed. PostgreSQL is left running for the next supervise to adopt, so
 * the old one is ended without the chance to stop it. Returns the roles that were there.
 */
export async function stopOrphanedRoles(home: Home, log: Log): Promise<RoleName[]> {
  const stopped: RoleName[] = []
  for (const name of roleNames) {
    const record = readRecord(home, name)
    if (record && isAlive(record)) {
      if (name === 'supervise') sendSignal(record.pid, 'SIGKILL')
      const outcome = await terminate(record, { graceMs })
      log.warn({ orphan: name, process: record.pid, outcome }, 'role of an earlier start was stopped')
      stopped.push(name)
    }
    removeRecord(home, name)
  }
  return stopped
}

/** Stops a PostgreSQL of this home that no supervise looks after. Returns whether there was one. */
export async function stopOrphanedPostgres(
  home: Home,
  options: { mode: StopMode; withinMs: number; log: Log },
): Promise<boolean> {
  const outcome = await stopPostmaster({
    ...options,
    dataDirectory: dataDirectoryOf(home),
    clock: systemClock,
  })
  if (outcome !== 'not running') options.log.warn({ outcome }, 'PostgreSQL without a supervise was stopped')
  return outcome !== 'not running'
}
