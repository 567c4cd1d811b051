import { formatLsn, type Lsn, parseLsn, segmentStart } from '#lib/lsn.ts'
import { backupError } from '../errors.ts'
import type { DatabaseFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { type Hole, reachOf, type StoredLog } from '../verify/continuity.ts'
import { listLog } from '../verify/stored-log.ts'

/**
 * Whether the repository has the log from the backup's beginning to its end, by the names of whole segments and tails.
 * An archive says how far it has come, which is one mark: a hole before it would be found by the drill only.
 * @throws BACKUP_WAL_GAP
 */
export async function requireLog(repository: Repository, database: DatabaseFacts): Promise<void> {
  if (!(await holeNow(repository, database))) return
  // Between two pages of a listing the tails of a segment may have gone and the whole one come; then it stays.
  const hole = await holeNow(repository, database)
  if (!hole) return
  const { from, to, timeline } = hole
  throw backupError('BACKUP_WAL_GAP', { from: formatLsn(from), to: formatLsn(to), timeline })
}

async function holeNow(repository: Repository, database: DatabaseFacts): Promise<Hole | undefined> {
  const { systemIdentifier, segmentBytes } = database
  // A history plays no part: a server that changes its timeline fails the backup itself.
  const log = await listLog(repository, systemIdentifier, segmentBytes, () => {})
  return firstHole(database, log)
}

/** The first part of the log between a backup's beginning and its end that is not stored. */
export function firstHole(
  database: Pick<DatabaseFacts, 'timeline' | 'start' | 'stop'>,
  log: StoredLog,
): Hole | undefined {
  const { timeline } = database
  const [start, stop] = [parseLsn(database.start) as Lsn, parseLsn(database.stop) as Lsn]
  const last = segmentStart(stop - 1n, log.segmentBytes)
  // What came after the backup is none of its business.
  const segments = (log.segments.get(timeline) ?? []).filter(one => one <= last)
  const until = { ...log, segments: new Map([[timeline, segments]]), parents: new Map() }
  return reachOf({ timeline, start, stop }, until).holes[0]
}
