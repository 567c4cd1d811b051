import { formatLsn, type Lsn, parseLsn } from '#lib/lsn.ts'
import type { HistoryFacts } from '../model.ts'

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

// A hundred timelines and more; beside the parents it still fits into a header.
const longestText = 16 * 1024

/** What the header of a stored history file says in clear. */
export function historyFacts(systemIdentifier: string, timeline: number, content: Uint8Array): HistoryFacts {
  const parents = parseHistory(content).map(one => ({
    timeline: one.timeline,
    end: formatLsn(one.switchLsn),
  }))
  const text = Buffer.from(content).toString('utf8')
  const isExact = content.length <= longestText && Buffer.from(text).equals(content)
  return { systemIdentifier, timeline, parents, ...(isExact ? { text } : {}) }
}
