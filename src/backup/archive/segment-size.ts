import { archiveError } from './errors.ts'

const units: Record<string, number> = { kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 }
/** A segment is one object of the repository, which takes 64 MiB, and is compared in memory. */
const mostBytes = 32 * 1024 * 1024

/** Of `16MB`, as SHOW wal_segment_size prints it. @throws ARCHIVE_SEGMENTS_TOO_LARGE */
export function segmentBytesOf(shown: string): number {
  const [, count, unit = ''] = /^(\d+)(kB|MB|GB)$/.exec(shown) ?? []
  const bytes = Number(count) * (units[unit] ?? Number.NaN)
  if (!(bytes <= mostBytes)) throw archiveError('ARCHIVE_SEGMENTS_TOO_LARGE', { size: shown })
  return bytes
}
