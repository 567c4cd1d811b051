import { existsSync, readdirSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { restoreError } from './errors.ts'

// Segments that lie ready, and what PostgreSQL keeps of them until its next checkpoint.
const walBytes = 512 * 1024 * 1024

/** What a restore of so much data takes on disk at most. */
export function neededBytes(rawBytes: number): number {
  return rawBytes + walBytes
}

/** Bytes that an ordinary user may still write there, or where the directory would be made. */
export function freeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(nearestExisting(resolve(directory)))
  return bavail * bsize
}

/** @throws RESTORE_NO_SPACE */
export function refuseSmallDisk(directory: string, rawBytes: number): void {
  const [needed, free] = [neededBytes(rawBytes), freeBytes(directory)]
  if (free >= needed) return
  const megabytes = (bytes: number) => Math.round(bytes / 1e6)
  throw restoreError('RESTORE_NO_SPACE', {
    directory,
    neededMegabytes: megabytes(needed),
    freeMegabytes: megabytes(free),
  })
}

/** A file system of its own brings lost+found along. @throws RESTORE_NOT_EMPTY */
export function refuseFilled(directory: string): void {
  const names = existsSync(directory) ? readdirSync(directory) : []
  if (names.some(name => name !== 'lost+found')) throw restoreError('RESTORE_NOT_EMPTY', { directory })
}

function nearestExisting(path: string): string {
  return existsSync(path) || path === dirname(path) ? path : nearestExisting(dirname(path))
}
