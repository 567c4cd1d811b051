import { setTimeout as delay } from 'node:timers/promises'
import { clearScratch } from '#backup/drill/scratch.ts'
import { systemClock } from '#lib/clock.ts'
import { callControl, isListening } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { isAlive, readRecord, removeRecord, terminate } from '#lib/processes.ts'
import { roleError } from './errors.ts'
import { roleNames, stopOrphanedPostgres } from './up/orphans.ts'

export interface DownResult {
  /** What was stopped: up, or the roles and PostgreSQL that a killed one left behind. */
  stopped: string[]
}

// An orderly stop has its own deadlines (drain, then PostgreSQL); this only bounds our waiting for them.
const upStopsWithinMs = 120_000
const pollMs = 50

/** Stops everything that runs on this home. Throws ROLE_FAILED when the live `up` does not come to an end. */
export async function down(
  home: Home,
  options: { stopWithinMs: number; scratch: string },
): Promise<DownResult> {
  const stopped = (await stopLiveUp(home)) ? ['up'] : []
  // supervise stops PostgreSQL itself when asked politely.
  for (const name of roleNames) {
    const record = readRecord(home, name)
    if (!record) continue
    if ((await terminate(record, { graceMs: options.stopWithinMs + 15_000 })) !== 'gone') stopped.push(name)
    removeRecord(home, name)
  }
  const stop = { mode: 'fast', withinMs: options.stopWithinMs, log: silentLog } as const
  if (await stopOrphanedPostgres(home, stop)) stopped.push('postgres')
  if ((await clearScratch(options.scratch, silentLog, systemClock)) > 0) stopped.push('drill')
  return { stopped }
}

async function stopLiveUp(home: Home): Promise<boolean> {
  const path = home.socket('up')
  if (!(await isListening(path))) return false
  const record = readRecord(home, 'up')
  await callControl({ path, method: 'POST', route: '/stop' })
  const untilMs = performance.now() + upStopsWithinMs
  while (record ? isAlive(record) : await isListening(path)) {
    if (performance.now() > untilMs) {
      throw roleError('ROLE_FAILED', {
        role: 'up',
        reason: 'it does not come to an end',
        log: `${home.logs}/server.log`,
      })
    }
    await delay(pollMs)
  }
  return true
}
