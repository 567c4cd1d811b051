import { createHash } from 'node:crypto'
import { layout } from '../layout.ts'
import type { RemovalReport, VerifyFault, VerifyReport } from '../model.ts'
import type { Repository } from '../repository.ts'

/** Whether the object is small, written once, and stays until somebody removes it and says so. */
function belongsInInventory(key: string): boolean {
  if (key === layout.repository) return true
  if (key.startsWith(layout.backups)) return key.endsWith('/COMPLETE')
  return [layout.dataKeys, 'identity/', layout.points, layout.pins, layout.allReports].some(prefix =>
    key.startsWith(prefix),
  )
}

// 100 bytes each: a report stays below 10 MiB.
const mostListed = 100_000

/** Key and SHA-256 of every object that belongs in the inventory. */
export async function takeInventory(
  repository: Repository,
  read: (key: string) => Promise<Buffer | undefined>,
): Promise<VerifyReport['inventory']> {
  const inventory: VerifyReport['inventory'] = []
  for await (const { key } of repository.storage.list('')) {
    if (!belongsInInventory(key) || inventory.length >= mostListed) continue
    const bytes = await read(key)
    if (bytes) inventory.push([key, createHash('sha256').update(bytes).digest('hex')])
  }
  return inventory
}

/** What the last check saw and this one does not, or not the same, except for what was removed on purpose. */
export function changedSince(
  last: Pick<VerifyReport, 'inventory' | 'finishedAt'>,
  now: VerifyReport['inventory'],
  removals: readonly Pick<RemovalReport, 'backups' | 'objects'>[],
): VerifyFault[] {
  const present = new Map(now)
  const gone = new Set(removals.flatMap(one => [...one.objects, ...one.backups.map(layout.complete)]))
  return last.inventory.flatMap(([object, sha256]): VerifyFault[] => {
    const current = present.get(object)
    if (current === sha256) return []
    if (current !== undefined)
      return [{ object, problem: 'damaged', reason: `it is not what it was on ${last.finishedAt}` }]
    if (gone.has(object)) return []
    return [
      { object, problem: 'missing', reason: `it was there on ${last.finishedAt} and nobody removed it` },
    ]
  })
}
