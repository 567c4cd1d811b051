import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Job } from '#backup/jobs/jobs.ts'
import { adoptOwner, type Home } from '#lib/home.ts'
import { RotatingFile } from '../up/rotating-file.ts'

/** logs/backups/backup.log: one JSON line for each end of a backup, drill, check or pruning. */
export function openJobLog(home: Home): { write(job: Job): void; close(): void } {
  const path = join(home.logs, 'backups', 'backup.log')
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  adoptOwner(dirname(path))
  const file = new RotatingFile({ path, limitBytes: 8 * 1024 * 1024, keep: 3 })
  return {
    write: ({ progress: _progress, ...job }) => file.write(JSON.stringify({ time: job.finishedAt, ...job })),
    close: () => file.close(),
  }
}
