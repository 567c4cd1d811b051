import { type Lsn, parseLsn } from '#lib/lsn.ts'

/** A timeline and the position at which the next one of the chain branches off. */
export interface TimelineSwitch {
  timeline: number
  switchLsn: Lsn
}

/** The ancestors in a timeline history file, oldest first (PostgreSQL timeline.c, readTimeLineHistory). */
export function parseHistory(content: Uint8Array): TimelineSwitch[] {
  const ancestors: TimelineSwitch[] = []
  for (const line of Buffer.from(content).toString('utf8').split('\n')) {
    const [, timeline, lsn] = /^\s*(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/i.exec(line) ?? []
    const switchLsn = parseLsn(lsn ?? '')
    if (timeline !== undefined && switchLsn !== undefined)
      ancestors.push({ timeline: Number(timeline), switchLsn })
  }
  return ancestors
}
