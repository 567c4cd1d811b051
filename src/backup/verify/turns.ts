import type { BackupMarker } from '../model.ts'
import { isLogWithin } from './needs.ts'

/** Whether an object is read this time; `backup` is the id of the one whose own it is. */
export type IsDue = (backup: string | undefined, key: string) => boolean

/** New backups at once, with the log that they were taken in; every other object once in so many days. */
export function turnsOf(o: {
  everyDays: number
  now: Date
  markers: readonly BackupMarker[]
  /** Ids of backups that were found whole before. */
  readBefore: readonly string[]
}): IsDue {
  const { everyDays, now, markers } = o
  const known = new Set(o.readBefore)
  // A backup is not whole without the log from its beginning to its end.
  const fresh = markers.flatMap(one => (one.database && !known.has(one.id) ? [one.database] : []))
  const day = Math.floor(now.getTime() / 86_400_000)
  return (backup, key) => {
    if (everyDays <= 1 || (backup !== undefined && !known.has(backup))) return true
    if (backup === undefined && fresh.some(one => isLogWithin(key, one))) return true
    return smallHash(key) % everyDays === day % everyDays
  }
}

/** Spreads keys over days; no secret depends on it (FNV-1a). */
function smallHash(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  return hash
}
