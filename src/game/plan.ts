import { drawAt, isDrawnAt, type SpinJob } from './spin-job.ts'

/**
 * Pure: what goes into the next statement. Spins are grouped by account (in account order, so that concurrent batches
 * lock in one order) and drawn at the nonces they will have. A spin that the balance we know of would not cover waits,
 * with all that come after it, until the spins before it have settled. Spins at the head that the balance does not cover
 * go all the same, and together: only the database's word on the balance refuses a spin, and one word refuses them all.
 */
export function planGroups(jobs: readonly SpinJob[]): { groups: SpinJob[][]; held: SpinJob[] } {
  const held: SpinJob[] = []
  const groups = byAccount(jobs).map(group => {
    const covered = group.slice(0, drawAndCount(group))
    for (const job of group.slice(covered.length)) held.push(job)
    return covered
  })
  return { groups, held }
}

// Draws each spin at its place and counts how many go now.
function drawAndCount(group: SpinJob[]): number {
  const { seat } = group[0] as SpinJob
  const covered = group.findIndex(job => job.stake <= seat.balance)
  let balance = seat.balance
  for (let index = 0; index < group.length; index++) {
    const job = group[index] as SpinJob
    if (covered === 0 ? balance < job.stake : index === covered) return index
    if (!isDrawnAt(job, seat.nonce + index)) drawAt(job, seat.nonce + index)
    balance += job.payout - job.stake
  }
  return group.length
}

function byAccount(jobs: readonly SpinJob[]): SpinJob[][] {
  const groups = new Map<bigint, SpinJob[]>()
  for (const job of jobs) {
    const group = groups.get(job.seat.accountId)
    if (group) group.push(job)
    else groups.set(job.seat.accountId, [job])
  }
  return [...groups.values()].sort((a, b) => compare(accountOf(a), accountOf(b)))
}

function accountOf(group: SpinJob[]): bigint {
  return (group[0] as SpinJob).seat.accountId
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
