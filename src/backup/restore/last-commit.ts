import { formatLsn, parseSegmentName } from '#lib/lsn.ts'
import { walkRecords } from '#postgres/wire/wal-records.ts'
import { restoreError } from './errors.ts'
import type { RestorePlan } from './plan.ts'
import type { StoredWal } from './stored-wal.ts'
import { describeTarget } from './target.ts'
import { refuseHole } from './wal-range.ts'

// The canary alone commits every few seconds; a log without commits for this long tells nothing.
export const mostSegments = 8

/** Server's clock in the last commit that is known of the log; undefined when none is near its end. */
export async function lastCommitOf(
  plan: Pick<RestorePlan, 'backup'> & { wal: Pick<RestorePlan['wal'], 'segments'> },
  wal: StoredWal,
): Promise<Date | undefined> {
  const { segmentBytes } = plan.backup.database
  for (const segment of plan.wal.segments.slice(-mostSegments).reverse()) {
    const found = await wal.segment(segment)
    const parsed = parseSegmentName(segment, segmentBytes)
    if (!found || !parsed) continue
    const { lastCommitAt } = walkRecords(found.bytes, { start: parsed.start, segmentBytes })
    if (lastCommitAt) return lastCommitAt
  }
  return undefined
}

/**
 * PostgreSQL knows that it has reached a time only by a later commit.
 * @throws BACKUP_WAL_GAP when there may be one behind a hole, RESTORE_TARGET_UNREACHABLE
 */
export function refuseLaterThan(lastCommitAt: Date | undefined, plan: RestorePlan): void {
  const { target, backup, wal } = plan
  if (target.kind !== 'time' || lastCommitAt === undefined || lastCommitAt >= target.at) return
  refuseHole(wal)
  throw restoreError('RESTORE_TARGET_UNREACHABLE', {
    target: describeTarget(target),
    reason: `the last commit in the write-ahead log is of ${lastCommitAt.toISOString()}`,
    from: `${backup.database.stopTime} (LSN ${backup.database.stop})`,
    to: `${lastCommitAt.toISOString()} (LSN ${formatLsn(wal.to)})`,
  })
}
