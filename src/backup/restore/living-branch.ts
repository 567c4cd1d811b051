import { Failure } from '#lib/errors.ts'
import { formatLsn, type Lsn, parseSegmentName } from '#lib/lsn.ts'
import { walPageBytes } from '#postgres/wire/wal-page.ts'
import { WalRecordReader, type WalSummary } from '#postgres/wire/wal-records.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { Repository } from '../repository.ts'
import { type Branch, type BranchCommits, isMeant, unclear } from './branches.ts'
import { isKeyMissing } from './keys-here.ts'
import { lastCommitOf, mostSegments } from './last-commit.ts'
import type { RestorePlan } from './plan.ts'
import { StoredWal } from './stored-wal.ts'
import { lsnOf, type Stretch } from './timelines.ts'
import type { WalRange } from './wal-range.ts'

interface Source {
  repository: Repository
  pool: SealPool
  spool?: string | undefined
}

/** Log behind a fork. */
interface Behind {
  path: readonly Stretch[]
  fork: Lsn
  wal: WalRange
}

/**
 * Reads what was committed on the branches beside a plan: no restore leaves that out unasked.
 * @throws RESTORE_TIMELINE_NEEDED, BACKUP_KEY_NEEDED, what the storage says
 */
export async function refuseLivingBranch(source: Source, plan: RestorePlan): Promise<void> {
  for (const branch of plan.branches) {
    const { timeline, fork } = branch
    const commits = await commitsOf(source, plan, branch)
    if (!commits) continue
    const own = await summaryOf(source, plan, { path: plan.path, fork, wal: branch.followedWal })
    if (!isMeant(branch, plan.target, commits, own?.firstCommitAt)) continue
    const reason = `timeline ${timeline} parts from timeline ${plan.timeline} at ${formatLsn(fork)} and has commits from ${commits.first.toISOString()} to ${commits.last.toISOString()}`
    throw unclear({ ...plan, to: plan.wal.to }, reason)
  }
}

/** Undefined without commits, and where nothing can be read: what is damaged or closed there cannot be meant either. */
async function commitsOf(
  source: Source,
  plan: RestorePlan,
  branch: Branch,
): Promise<BranchCommits | undefined> {
  const { segmentBytes, systemIdentifier } = plan.backup.database
  try {
    const { firstCommitAt, lastCommitAt } = (await summaryOf(source, plan, branch)) ?? {}
    if (!firstCommitAt || !lastCommitAt) return undefined
    const { path, wal: range } = branch
    const wal = new StoredWal({ ...source, systemIdentifier, segmentBytes, path, range })
    // In the fork's own segment commits from before it stand as well.
    const rest = { ...range, segments: range.segments.slice(1) }
    const last = await lastCommitOf({ backup: plan.backup, wal: rest }, wal)
    return { first: firstCommitAt, last: last ?? lastCommitAt }
  } catch (error) {
    // A home knows the keys since its newest backup: behind that one, older branches stay closed without a question.
    if (isKeyMissing(error) && lsnOf(plan.backup.database.stop) <= branch.fork) throw error
    if (error instanceof Failure && unreadable.test(error.code)) return undefined
    throw error
  }
}

const unreadable = /^(BACKUP_(KEY_NEEDED|OBJECT_DAMAGED|OBJECT_MISSING|WAL_GAP)|RESTORE_WAL_DAMAGED)$/

/** Of the records behind a fork up to the end of the first segment with a commit; undefined when there is no log. */
async function summaryOf(source: Source, plan: RestorePlan, behind: Behind): Promise<WalSummary | undefined> {
  const { segmentBytes, systemIdentifier } = plan.backup.database
  const { path, fork, wal: range } = behind
  const wal = new StoredWal({ ...source, systemIdentifier, segmentBytes, path, range })
  const pageStart = fork - (fork % BigInt(walPageBytes))
  // At the begin of a page the record stands behind the page's header, wherever that ends.
  const first = fork === pageStart ? {} : { firstRecord: fork }
  const reader = new WalRecordReader({ start: pageStart, segmentBytes, ...first })
  let summary: WalSummary | undefined
  for (const segment of range.segments.slice(0, mostSegments)) {
    const found = await wal.segment(segment)
    const { start = fork } = parseSegmentName(segment, segmentBytes) ?? {}
    if (!found || found.end <= fork) break
    const from = start < pageStart ? Number(pageStart - start) : 0
    reader.push(found.bytes.subarray(from, Number(found.end - start)))
    summary = reader.end()
    if (summary.firstCommitAt || summary.brokenAt !== undefined) break
  }
  return summary
}
