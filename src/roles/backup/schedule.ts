import { checkSchedule, nextRun } from '#backup/schedule/policy.ts'
import type { ScheduleStatus } from '#backup/status.ts'
import { systemClock } from '#lib/clock.ts'
import type { Context } from '../program.ts'
import { archiveStatus } from './look.ts'
import { loadBackupConfig } from './open.ts'
import { schedulesOf } from './schedules.ts'

/** What the live archive keeps to; while it is down, what it would keep to. @throws BACKUP_SCHEDULE_INVALID */
export async function readSchedule(context: Context): Promise<{ live: boolean; runs: ScheduleStatus[] }> {
  const status = await archiveStatus(context.openHome())
  if (status) return { live: true, runs: status.schedule }
  const now = systemClock.now()
  const runs = schedulesOf(loadBackupConfig(context)).map(schedule => {
    checkSchedule(schedule)
    return { ...schedule, next: nextRun(schedule, now)?.toISOString() ?? null, lastTried: null }
  })
  return { live: false, runs }
}
