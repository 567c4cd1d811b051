import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { layout } from '../layout.ts'
import type { BackupMarker, DatabaseFacts } from '../model.ts'

/** Whether none of the objects is the backup's own, its key, or log from its beginning on. */
export function isUntouched(marker: BackupMarker, faulty: Iterable<string>): boolean {
  return ![...faulty].some(object => needs(marker, object))
}

function needs({ id, dataKeys, database }: BackupMarker, object: string): boolean {
  const own = [layout.backup(id), ...dataKeys.map(one => `${layout.dataKeys}${one}/`)]
  if (own.some(prefix => object.startsWith(prefix))) return true
  if (!database) return false
  const { systemIdentifier: system, segmentBytes } = database
  if (![layout.cluster(system), layout.tails(system)].some(prefix => object.startsWith(prefix))) return false
  const start = parseLsn(database.start)
  return start === undefined || !segmentBefore(object, start, segmentBytes)
}

/** Whether the segment holds log of the time in which the backup was taken. */
export function isLogWithin(
  key: string,
  { systemIdentifier, start, stop, segmentBytes }: DatabaseFacts,
): boolean {
  const [from, to] = [parseLsn(start), parseLsn(stop)]
  if (from === undefined || to === undefined || !key.startsWith(layout.cluster(systemIdentifier)))
    return false
  return (
    !segmentBefore(key, from, segmentBytes) &&
    segmentBefore(key, to + BigInt(segmentBytes) - 1n, segmentBytes)
  )
}

/** Whether the key names a segment, or a piece of one, that ends at or before the position. */
export function segmentBefore(key: string, lsn: Lsn, segmentBytes: number): boolean {
  const name = /[0-9A-F]{24}/.exec(key)?.[0]
  if (name === undefined) return false
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes)
  const start =
    (BigInt(`0x${name.slice(8, 16)}`) * perLog + BigInt(`0x${name.slice(16)}`)) * BigInt(segmentBytes)
  return start + BigInt(segmentBytes) <= lsn
}
