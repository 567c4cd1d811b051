import { existsSync, readFileSync } from 'node:fs'
import { writeDurably } from '#lib/home.ts'
import { historyName } from '#lib/lsn.ts'
import type { ReplicationConnection } from '#postgres/wire/connection.ts'
import { archiveError } from './errors.ts'
import { parseHistory, type TimelineSwitch } from './history.ts'
import type { Spool } from './spool.ts'

/**
 * Puts the history files of a timeline and of its ancestors into the spool, before any of its WAL; answers the ancestors.
 * @throws ARCHIVE_HISTORY_DIFFERS when another timeline of this number was archived
 */
export async function fetchHistories(
  connection: ReplicationConnection,
  spool: Spool,
  timeline: number,
): Promise<TimelineSwitch[]> {
  if (timeline === 1) return []
  const { content } = await connection.timelineHistory(timeline)
  const ancestors = parseHistory(content)
  for (const one of ancestors) {
    if (one.timeline === 1 || existsSync(spool.pathFor(historyName(one.timeline)))) continue
    keep(spool, one.timeline, (await connection.timelineHistory(one.timeline)).content)
  }
  keep(spool, timeline, content)
  return ancestors
}

function keep(spool: Spool, timeline: number, content: Buffer): void {
  const path = spool.pathFor(historyName(timeline))
  if (!existsSync(path)) writeDurably(path, content)
  else if (!readFileSync(path).equals(content))
    throw archiveError('ARCHIVE_HISTORY_DIFFERS', { file: path, timeline })
}
