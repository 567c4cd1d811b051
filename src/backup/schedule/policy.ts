import { Cron } from 'croner'
import { backupError } from '../errors.ts'

export interface Schedule {
  name: 'backup' | 'drill' | 'verify'
  /** Cron expression (5 or 6 fields); empty for never. */
  pattern: string
  /** IANA name. */
  timezone: string
}

export interface Due {
  name: Schedule['name']
  /** The moment that the run stands for. It is the name of the run: whoever has done it since then has done this one. */
  slot: Date
}

// A run that was due while the machine was off is made up for; one that is older than this belongs to the past.
const madeUpForMs = 7 * 24 * 60 * 60 * 1000

/**
 * The run that is due now, if any: the latest moment of the schedule that has come since `since` and that nothing
 * finished has covered.
 * @param doneAt when a run of this kind last began and then ended well
 * @param since nothing before it counts: the first start of this installation
 */
export function dueNow(
  schedule: Schedule,
  now: Date,
  known: { doneAt?: Date; triedSlot?: Date; since: Date },
): Due | undefined {
  const slot = latestSlot(schedule, now)
  if (!slot || slot < known.since || now.getTime() - slot.getTime() > madeUpForMs) return undefined
  if (known.doneAt && known.doneAt >= slot) return undefined
  // A run that failed is not tried again and again: the next moment of the schedule comes.
  if (known.triedSlot && known.triedSlot >= slot) return undefined
  return { name: schedule.name, slot }
}

/** When it runs next; undefined for an empty schedule. */
export function nextRun(schedule: Schedule, now: Date): Date | undefined {
  return cronOf(schedule)?.nextRun(now) ?? undefined
}

/** @throws BACKUP_SCHEDULE_INVALID for a pattern or a time zone that nobody can read. */
export function checkSchedule(schedule: Schedule): void {
  try {
    cronOf(schedule)?.nextRun()
  } catch (error) {
    const { name, pattern, timezone } = schedule
    const reason = (error as Error).message
    throw backupError('BACKUP_SCHEDULE_INVALID', { name, pattern, timezone, reason }, { cause: error })
  }
}

/** The last moment of the schedule that is not after `now`. */
function latestSlot(schedule: Schedule, now: Date): Date | undefined {
  // previousRuns gives moments before its reference; one second later includes `now` itself.
  const reference = new Date(now.getTime() + 1000)
  const slot = cronOf(schedule)?.previousRuns(1, reference)[0]
  return slot && slot <= now ? slot : undefined
}

function cronOf({ pattern, timezone }: Schedule): Cron | undefined {
  return pattern.trim() === '' ? undefined : new Cron(pattern, { timezone, paused: true })
}
