import type { Schedule } from '#backup/schedule/policy.ts'
import type { BackupValues } from './open.ts'

/** The schedules of the configuration. */
export function schedulesOf({ backup }: BackupValues): Schedule[] {
  const { schedule, drillSchedule, verifySchedule, timezone } = backup
  return [
    { name: 'backup', pattern: schedule, timezone },
    { name: 'verify', pattern: verifySchedule, timezone },
    { name: 'drill', pattern: drillSchedule, timezone },
  ]
}
