import { nextRun, type Schedule } from '#backup/schedule/policy.ts'
import { ageText, type Check } from './check.ts'

export interface Freshness {
  name: string
  schedule: Schedule
  /** When it was last done, and whether that ended well. */
  lastAt?: Date
  lastOk?: boolean
  /** When backups were set up; before that there is nothing to do. */
  since?: Date
  /** How long after that the first one may take; without it one turn of the schedule. */
  firstWithinMs?: number
  mend: string
}

// A run takes its time, and one that was due while the machine was off is made up for after the start.
const graceMs = 2 * 3600 * 1000

/** Pure: whether what the schedule promises was done, at `now`. */
export function judgeFreshness(one: Freshness, now: Date): Check {
  const { name, schedule, lastAt, mend } = one
  const turnMs = turnOf(schedule, now)
  const planned = turnMs === undefined ? ', none is scheduled' : ''
  if (lastAt === undefined) {
    if (!one.since) return { name, ok: true, seen: 'nothing to do yet' }
    const ageMs = now.getTime() - one.since.getTime()
    const withinMs = one.firstWithinMs ?? turnMs
    const ok = withinMs === undefined || ageMs <= withinMs + graceMs
    return { name, ok, seen: `none yet, ${ageText(ageMs)} after the set-up${planned}`, mend }
  }
  const ageMs = now.getTime() - lastAt.getTime()
  const age = `${ageText(ageMs)} ago`
  if (one.lastOk === false) return { name, ok: false, seen: `the last one failed ${age}`, mend }
  return { name, ok: turnMs === undefined || ageMs <= turnMs + graceMs, seen: `${age}${planned}`, mend }
}

/** From one run to the next, in milliseconds; undefined for an empty schedule. */
function turnOf(schedule: Schedule, now: Date): number | undefined {
  const first = nextRun(schedule, now)
  const second = first && nextRun(schedule, first)
  return first && second && second.getTime() - first.getTime()
}
