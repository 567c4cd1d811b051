// Our archive in a process of its own: `own-archive.ts OPTIONS`. It goes on until SIGTERM.
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { Archiver } from '#backup/archive/archiver.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { Repository } from '#backup/repository.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { createLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openStorage } from '#storage/open.ts'
import { type OursPlace, openPool } from './own-process.ts'

export interface ArchiverOptions extends OursPlace {
  spool: string
  slot: string
  replication: pg.ClientConfig
}

const o: ArchiverOptions = JSON.parse(process.argv[2] ?? '')
// On standard output, which the bench shows when the archive fails.
const log = createLog({ role: 'archive', level: 'warn' })
const storage = await openStorage({ url: pathToFileURL(o.repository).href, log })
const home = openHome(o.home)
ensureBackupKeys({ home, chain: 'simulated' })
// Limits and times as the configuration has them by default.
const archiver = new Archiver({
  connect: () => ReplicationConnection.open(o.replication, { applicationName: 'archive' }),
  repository: await Repository.create({ storage, home }),
  pool: openPool(),
  spoolDirectory: o.spool,
  spoolLimitBytes: 4096 * 1024 * 1024,
  slot: o.slot,
  tailEveryMs: 10_000,
  clock: systemClock,
  log,
  metrics: createMetrics(),
  onGap: gap => {
    throw new Error(`a gap from ${gap.from} to ${gap.to}`)
  },
  holder: 'bench',
})
process.once('SIGTERM', () => void archiver.stop().then(() => process.exit()))
await archiver.start()
