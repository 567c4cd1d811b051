import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Program } from './program.ts'

// More than a lease and the margin for clocks.
const agedByMs = 300_000

/** What dead processes held in the repository of the home is over, as after some minutes. A live holder renews its own. */
export function passTime({ home }: Program, lock = '*'): void {
  for (const path of globSync(join(home, 'backups', 'locks', lock, '*'))) {
    const record = parse(readFileSync(path, 'utf8'))
    if (!record || record.released) continue
    const renewedAt = new Date(Date.parse(record.renewedAt) - agedByMs).toISOString()
    writeFileSync(path, JSON.stringify({ ...record, renewedAt }))
  }
}

function parse(text: string): { renewedAt: string; released?: boolean } | undefined {
  try {
    return JSON.parse(text)
  } catch {
    // Half written by whoever was killed.
    return undefined
  }
}
