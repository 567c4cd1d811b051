import { formatLsn, type Lsn, segmentStart } from '#lib/lsn.ts'
import { archiveError } from './errors.ts'
import type { TimelineSwitch } from './history.ts'

export interface Position {
  timeline: number
  lsn: Lsn
}

/** What there is when the archive meets the server. */
export interface Meeting {
  server: Position
  /** Ancestors of the server's timeline, oldest first. */
  ancestors: readonly TimelineSwitch[]
  /** From where the slot keeps WAL. */
  slot: Position
  /** Where the next byte belongs, and how far what is here may reach; undefined for an archive that begins. */
  have: (Position & { end: Lsn }) | undefined
  segmentBytes: number
}

/**
 * Where the stream begins: after what is here, on the timeline that leads to the server's; for a new archive, the
 * segment that the slot keeps.
 * @throws ARCHIVE_SERVER_BEHIND when following the server would archive a second history beside the first.
 */
export function planStart(meeting: Meeting): Position {
  const { server, have } = meeting
  if (!have) return slotStart(meeting)
  if (server.timeline < have.timeline) throw behind(meeting, have)
  const line = chainOf(meeting).find(
    one => one.timeline > have.timeline || (one.timeline === have.timeline && one.end > have.lsn),
  )
  // Nothing to come: the server stands where the archive does, or it has lost what the archive holds.
  if (!line && have.end > server.lsn) throw behind(meeting, have)
  if (!line) return { timeline: have.timeline, lsn: have.lsn }
  if (line.timeline !== have.timeline)
    return { timeline: line.timeline, lsn: segmentStart(line.begin, meeting.segmentBytes) }
  if (line.timeline === server.timeline && have.end > server.lsn) throw behind(meeting, have)
  return { timeline: have.timeline, lsn: have.lsn }
}

export interface WalGap {
  timeline: number
  /** LSN text: WAL from here to `to` is in no archive. */
  from: string
  to: string
  /** RFC 3339. */
  noticedAt: string
}

export function isAhead(a: Position, b: Position): boolean {
  return a.timeline > b.timeline || (a.timeline === b.timeline && a.lsn > b.lsn)
}

/** When the server no longer has `wanted`: the beginning of what its slot keeps. Undefined when that is not ahead. */
export function startAfterGap(meeting: Meeting, wanted: Position): Position | undefined {
  const start = slotStart(meeting)
  return isAhead(start, wanted) ? start : undefined
}

/** The ancestors' own WAL lies under the name of the timeline on which it was written. */
function slotStart({ slot, segmentBytes }: Meeting): Position {
  return { timeline: slot.timeline, lsn: segmentStart(slot.lsn, segmentBytes) }
}

interface Stretch {
  timeline: number
  begin: Lsn
  end: Lsn
}

function chainOf({ server, ancestors }: Meeting): Stretch[] {
  const ends = [...ancestors, { timeline: server.timeline, switchLsn: server.lsn }]
  return ends.map(({ timeline, switchLsn }, i) => ({
    timeline,
    begin: ends[i - 1]?.switchLsn ?? 0n,
    end: switchLsn,
  }))
}

function behind({ server }: Meeting, have: Position & { end: Lsn }) {
  return archiveError('ARCHIVE_SERVER_BEHIND', {
    timeline: server.timeline,
    serverLsn: formatLsn(server.lsn),
    archivedTimeline: have.timeline,
    archivedLsn: formatLsn(have.end),
  })
}
