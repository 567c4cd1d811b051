// One backup in a process of its own, for tests that kill it or look at its memory: node backup-process.ts OPTIONS,
// as JSON. Prints JSON lines: {progress} and in the end {done} or {failed}.
import { join } from 'node:path'
import type pg from 'pg'
import { runBackup } from '#backup/base/full.ts'
import { databaseTime } from '#backup/base/server-facts.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openRepository, openRepositoryStorage } from '#test/backup/archiving.ts'
import { peakMemory } from '#test/backup/backing-up.ts'

export interface ProcessOptions {
  directory: string
  /** For the superuser, who may replicate too. */
  server: pg.ClientConfig
  leaseMs: number
  threads: number
}

const o: ProcessOptions = JSON.parse(process.argv[2] ?? '{}')
const print = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`)
const storage = await openRepositoryStorage(o.directory)
const repository = await openRepository(o.directory, storage)
const pool = new SealPool({ threads: o.threads })
try {
  const { marker } = await runBackup({
    kind: 'full',
    home: openHome(join(o.directory, 'home')),
    repository,
    pool,
    database: {
      connect: ({ signal }) => ReplicationConnection.open(o.server, { signal }),
      databaseTime: () => databaseTime(o.server),
    },
    holder: `test process ${process.pid}`,
    program: 'moonyetis test',
    leaseMs: o.leaseMs,
    clock: systemClock,
    log: silentLog,
    onProgress: progress => print({ progress }),
  })
  print({ done: { id: marker.id, rawBytes: marker.rawBytes }, peakKilobytes: peakMemory() })
} catch (error) {
  const { code, message } = error as { code?: string; message: string }
  print({ failed: { code, message } })
}
await pool.close()
