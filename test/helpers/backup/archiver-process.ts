// An archiver in a process of its own, to be killed: `archiver-process.ts '{"directory":…,"connection":…}'`.

import { join } from 'node:path'
import type pg from 'pg'
import { Archiver } from '#backup/archive/archiver.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import { systemClock } from '#lib/clock.ts'
import { createLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openRepository, openRepositoryStorage, slotName } from './archiving.ts'

export interface ArchiverProcessOptions {
  directory: string
  connection: pg.ClientConfig
  leaseMs: number
  tailEveryMs: number
}

const o: ArchiverProcessOptions = JSON.parse(process.argv[2] ?? '')
const storage = await openRepositoryStorage(o.directory)
const repository = await openRepository(o.directory, storage)
const archiver = new Archiver({
  connect: () => ReplicationConnection.open(o.connection, { applicationName: 'archive' }),
  repository,
  pool: new SealPool({ threads: 1 }),
  spoolDirectory: join(o.directory, 'spool'),
  spoolLimitBytes: 2 ** 30,
  slot: slotName,
  tailEveryMs: o.tailEveryMs,
  leaseMs: o.leaseMs,
  clock: systemClock,
  // Lines on standard output: the test waits for `WAL streaming began`.
  log: createLog({ role: 'archive', level: 'info' }),
  metrics: createMetrics(),
  onGap: gap => {
    throw new Error(`a gap from ${gap.from} to ${gap.to}`)
  },
  holder: 'the process that is killed',
})
await archiver.start()
