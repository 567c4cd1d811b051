import { existsSync } from 'node:fs'
import { defaultSegmentBytes, type Lsn, parseSegmentName } from '#lib/lsn.ts'
import { layout } from '../layout.ts'
import type { BackupMarker, RestorePoint } from '../model.ts'
import type { Repository } from '../repository.ts'
import type { Catalogue, Cluster } from './plan.ts'
import { SpoolReader } from './spooled.ts'
import { listTails } from './tails.ts'
import { addPiece, type WalPiece } from './wal-range.ts'

export interface SurveyOptions {
  repository: Repository
  /** Root of the archive's spool, if it is on this machine. */
  spool?: string | undefined
  /** Called for what cannot be believed and is left out. */
  onDamaged?: (object: string, error: unknown) => void
}

/** Lists what restores can begin with and replay: names only, nothing of the log is read but the open segment here. */
export async function survey(options: SurveyOptions): Promise<Catalogue> {
  const { repository, onDamaged = () => {} } = options
  const backups = await repository.backups({ onDamaged })
  const points: RestorePoint[] = []
  for await (const { key } of repository.storage.list(layout.points)) {
    const point = await repository.readSigned<RestorePoint>(key).catch(error => onDamaged(key, error))
    if (point) points.push(point)
  }
  const systems = new Set(backups.flatMap(one => one.database?.systemIdentifier ?? []))
  const clusters = new Map<string, Cluster>()
  for (const system of systems) clusters.set(system, await surveyCluster(options, system, backups))
  return {
    repository: repository.storage.description,
    backups,
    points: points.sort((left, right) => Date.parse(left.at) - Date.parse(right.at)),
    clusters,
  }
}

async function surveyCluster(
  options: SurveyOptions,
  system: string,
  backups: readonly BackupMarker[],
): Promise<Cluster> {
  const { repository } = options
  const segmentBytes =
    backups.find(one => one.database?.systemIdentifier === system)?.database?.segmentBytes ??
    defaultSegmentBytes
  const stock = new Map<string, WalPiece>()
  const histories = new Map<number, Buffer>()
  const place = { root: options.spool ?? '', systemIdentifier: system, segmentBytes }
  const spool = existsSync(place.root) ? new SpoolReader(place) : undefined
  // The archive stores a segment before it removes file and tails, so the repository is listed last.
  if (spool) await addSpool(spool, segmentBytes, stock)
  for (const [segment, { timeline, start, end }] of await listTails(repository, system, segmentBytes))
    addPiece(stock, segment, { timeline, start, end })
  for (const timeline of await repository.timelines(system)) {
    const history = await repository.history(system, timeline)
    if (history) histories.set(timeline, history)
    for await (const { segment } of repository.segments(system, timeline)) {
      const parsed = parseSegmentName(segment, segmentBytes)
      if (parsed) addPiece(stock, segment, { ...parsed, end: parsed.start + BigInt(segmentBytes) })
    }
  }
  for (const { timeline } of stock.values()) {
    const history = histories.has(timeline) ? undefined : await spool?.history(timeline)
    if (history) histories.set(timeline, history)
  }
  return { histories, stock }
}

async function addSpool(
  spool: SpoolReader,
  segmentBytes: number,
  stock: Map<string, WalPiece>,
): Promise<void> {
  const { complete, closed, partial } = spool.list()
  const add = (segment: string, timeline: number, start: Lsn, end: Lsn) =>
    addPiece(stock, segment, { timeline, start, end })
  for (const { segment, timeline, start } of complete)
    add(segment, timeline, start, start + BigInt(segmentBytes))
  for (const { segment, timeline, start, end } of closed) add(segment, timeline, start, end)
  for (const { segment, timeline, start } of partial) {
    const piece = await spool.read(segment)
    if (piece) add(segment, timeline, start, piece.end)
  }
}
