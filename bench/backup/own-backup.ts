// One backup of ours in a process of its own, so that its CPU and memory are its own: `own-backup.ts OPTIONS`.
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { runBackup } from '#backup/base/full.ts'
import { databaseTime } from '#backup/base/server-facts.ts'
import { ensureBackupKeys } from '#backup/keys/setup.ts'
import { Repository } from '#backup/repository.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openStorage } from '#storage/open.ts'
import { beginWork, type OursPlace, openPool, untilEnded } from './own-process.ts'

export interface BackupOptions extends OursPlace {
  /** Only makes home, keys and repository. */
  prepare?: boolean
  replication: pg.ClientConfig
  sql: pg.ClientConfig
}

const done = beginWork()
const o: BackupOptions = JSON.parse(process.argv[2] ?? '')
const signal = untilEnded()
const storage = await openStorage({ url: pathToFileURL(o.repository).href, log: silentLog })
const home = openHome(o.home)
ensureBackupKeys({ home, chain: 'simulated' })
const repository = await Repository.create({ storage, home })
if (!o.prepare) await backup()
done()

/** All that `backup db` does without an archive: it stores the log that the backup needs itself. */
async function backup(): Promise<void> {
  await using pool = openPool()
  await runBackup({
    kind: 'db',
    home,
    repository,
    pool,
    database: {
      connect: options =>
        ReplicationConnection.open(o.replication, { ...options, applicationName: 'backup' }),
      databaseTime: () => databaseTime(o.sql),
    },
    holder: `bench, pid ${process.pid}`,
    program: 'moonyetis bench',
    clock: systemClock,
    log: silentLog,
    signal,
  })
}
