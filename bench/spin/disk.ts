import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** 8 kB overwrites, each made durable, on the disk of the database: what one commit at a time could reach. */
export function measureFdatasync(directory: string): number {
  const path = join(directory, 'fdatasync-probe')
  const fd = openSync(path, 'w')
  const page = Buffer.alloc(8192, 1)
  try {
    for (let index = 0; index < 256; index++) writeSync(fd, page, 0, page.length, index * page.length)
    fdatasyncSync(fd)
    const endMs = performance.now() + 1000
    let count = 0
    while (performance.now() < endMs) {
      writeSync(fd, page, 0, page.length, (count % 256) * page.length)
      fdatasyncSync(fd)
      count++
    }
    return count
  } finally {
    closeSync(fd)
    rmSync(path, { force: true })
  }
}
