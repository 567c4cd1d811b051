import { idTime, layout, type ReportKind } from '../layout.ts'
import type { Repository } from '../repository.ts'

// So many show how things went, however seldom somebody looks.
const alwaysKept = 10
// Longer than the recovery window, so that what was found in it can be read for a while after it.
const afterWindowDays = 30
const dayMs = 24 * 60 * 60 * 1000

/**
 * Keys of the reports that have had their time. Whoever loses the report that proved it is checked again, whole, by the
 * next check. What was removed is remembered for as long as a check is that may have seen it.
 */
export async function expiredReports(
  repository: Repository,
  o: { keepDays: number; now: Date },
): Promise<string[]> {
  const before = o.now.getTime() - (o.keepDays + afterWindowDays) * dayMs
  const expired = async (kind: ReportKind, from = before) => {
    const keys = await reportKeys(repository, kind)
    return keys.slice(0, -alwaysKept).filter(key => (timeOf(key) ?? from) < from)
  }
  const verifies = await expired('verify')
  const oldestKept = (await reportKeys(repository, 'verify'))[verifies.length]
  const removalsFrom = Math.min(before, (oldestKept && timeOf(oldestKept)) || before)
  return [...verifies, ...(await expired('drill')), ...(await expired('removal', removalsFrom))]
}

async function reportKeys(repository: Repository, kind: ReportKind): Promise<string[]> {
  return (await Array.fromAsync(repository.storage.list(layout.reports(kind)))).map(one => one.key)
}

function timeOf(key: string): number | undefined {
  return idTime(key.slice(key.lastIndexOf('/') + 1))
}
