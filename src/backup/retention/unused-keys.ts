import { Failure } from '#lib/errors.ts'
import { idTime, layout } from '../layout.ts'
import type { VerifyReport } from '../model.ts'
import type { Repository } from '../repository.ts'

// Names of the objects of half a terabyte of log; one ranged read each.
const mostInspected = 50_000
// Hides the latency of a store.
const atOnce = 8
// An archive uses a new key within seconds, and what it stored is named by then.
const settledMs = 24 * 60 * 60 * 1000

/**
 * Objects below keys/ that open nothing which is still there: a check saw them a day ago, this home does not use them,
 * and neither a backup nor the header of any piece of log names them. When one of those cannot be read, or there are too
 * many, there are none: a key too many costs a few hundred bytes.
 */
export async function unusedKeys(
  repository: Repository,
  o: { now: Date; signal?: AbortSignal },
): Promise<string[]> {
  const candidates = await settledKeys(repository, o.now)
  for (const id of repository.ring.remembered()) candidates.delete(id)
  const unreadable: string[] = []
  const markers = await repository.backups({ onDamaged: key => unreadable.push(key) })
  for (const id of markers.flatMap(one => one.dataKeys)) candidates.delete(id)
  if (unreadable.length > 0 || candidates.size === 0) return []
  const log = await logObjects(repository)
  if (!log || !(await strikeOut(repository, log, candidates, o.signal))) return []
  return [...candidates.values()].flat()
}

/** Data keys that are there and that a check saw a day ago: by id, the objects of each. */
async function settledKeys(repository: Repository, now: Date): Promise<Map<string, string[]>> {
  const seen = await seenBefore(repository, now.getTime() - settledMs)
  const found = new Map<string, string[]>()
  for await (const { key } of repository.storage.list(layout.dataKeys)) {
    const id = key.slice(layout.dataKeys.length).split('/')[0] ?? ''
    if (seen.has(id)) found.set(id, [...(found.get(id) ?? []), key])
  }
  return found
}

async function seenBefore(repository: Repository, time: number): Promise<Set<string>> {
  const reports = await Array.fromAsync(repository.storage.list(layout.reports('verify')))
  const keys = reports.map(one => one.key).filter(key => (idTime(key.split('/').at(-1) ?? '') ?? time) < time)
  for (const key of keys.slice(-10).reverse()) {
    const report = await repository.readSigned<VerifyReport>(key).catch(unlessDamaged)
    const ids = (report?.inventory ?? []).filter(([object]) => object.startsWith(layout.dataKeys))
    // A check of one backup takes no inventory, and a slow one took it long after it began.
    if (report && ids.length > 0 && Date.parse(report.finishedAt) < time)
      return new Set(ids.map(([object]) => object.split('/')[1] ?? ''))
  }
  return new Set()
}

function unlessDamaged(error: unknown): undefined {
  if (!(error instanceof Failure) || error.row.retry) throw error
}

/** Tails first: one that goes meanwhile became a part of a segment, which the archive sealed with a key of this home. */
async function logObjects({ storage }: Repository): Promise<string[] | undefined> {
  const keys: string[] = []
  for (const prefix of [layout.allTails, layout.clusters])
    for await (const { key } of storage.list(prefix)) if (keys.push(key) > mostInspected) return undefined
  return keys
}

/** Takes out of the candidates what the objects name; false when one of them does not tell. */
async function strikeOut(
  repository: Repository,
  objects: readonly string[],
  candidates: Map<string, unknown>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  let readable = true
  const queue = objects.values()
  const worker = async () => {
    for (const key of queue) {
      signal?.throwIfAborted()
      if (!readable || candidates.size === 0) return
      try {
        candidates.delete((await repository.inspect(key)).dataKey)
      } catch (error) {
        if (!(error instanceof Failure) || error.row.retry) throw error
        if (error.code !== 'BACKUP_OBJECT_MISSING') readable = false
      }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return readable
}
