import { mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Connect } from '#backup/base/base-backup.ts'
import { type DatabaseAccess, type RanBackup, type RunBackupOptions, runBackup } from '#backup/base/full.ts'
import { databaseTime } from '#backup/base/server-facts.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import type { BackupManifest, BackupMarker } from '#backup/model.ts'
import type { Repository } from '#backup/repository.ts'
import { systemClock } from '#lib/clock.ts'
import { type Home, openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { superuserName } from '#postgres/server/access.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { ReplicationConnection } from '#postgres/wire/connection.ts'
import { openRepository, openRepositoryStorage } from '#test/backup/archiving.ts'
import { type FaultyStorage, faulty } from '#test/storage/faulty.ts'
import { cleanUp, testDirectory } from '#test/unprivileged.ts'

/** A home with keys and a few secrets, and a repository whose storage can be made to fail. */
export interface BackupPlace {
  directory: string
  home: Home
  storage: FaultyStorage
  repository: Repository
  pool: SealPool
  backup(node: PostgresNode | undefined, more?: Partial<RunBackupOptions>): Promise<RanBackup>
  /** Keys of everything below backups/. */
  stored(): Promise<string[]>
}

export async function backupPlace(
  t: Pick<TestContext, 'after'>,
  o: { directory?: string; threads?: number } = {},
): Promise<BackupPlace> {
  const directory = o.directory ?? testDirectory(t)
  const storage = faulty(await openRepositoryStorage(directory))
  const repository = await openRepository(directory, storage)
  const home = openHome(join(directory, 'home'))
  const pool = new SealPool({ threads: o.threads ?? 2 })
  cleanUp(t, () => pool.close())
  return {
    directory,
    home,
    storage,
    repository,
    pool,
    backup: (node, more) => runBackup({ ...backupOptions({ home, repository, pool, node }), ...more }),
    stored: async () => (await Array.fromAsync(storage.list('backups/'))).map(one => one.key),
  }
}

function backupOptions(o: {
  home: Home
  repository: Repository
  pool: SealPool
  node: PostgresNode | undefined
}): RunBackupOptions {
  const { node, ...place } = o
  return {
    ...place,
    kind: 'full',
    ...(node ? { database: databaseAccess(node) } : {}),
    holder: `test, pid ${process.pid}`,
    program: 'moonyetis test',
    clock: systemClock,
    log: silentLog,
  }
}

export function databaseAccess(node: PostgresNode, connect = connectorTo(node)): DatabaseAccess {
  const sql = node.connection({ user: superuserName, database: 'postgres' })
  return { connect, databaseTime: () => databaseTime(sql) }
}

export function connectorTo(node: PostgresNode): Connect {
  const config = node.connection({ user: 'moonyetis_replication', database: 'postgres' })
  return ({ signal }) => ReplicationConnection.open(config, { signal, applicationName: 'backup' })
}

/** The raw archives of a backup and its server's manifest, as files that tar and PostgreSQL's programs read. */
export async function unsealArchives(o: {
  repository: Repository
  pool: SealPool
  marker: BackupMarker
  to: string
}): Promise<{ archives: { name: string; file: string; path?: string }[]; manifest: BackupManifest }> {
  const { repository, pool, marker, to } = o
  const { archives = [], manifestObject = '' } = marker.database ?? {}
  mkdirSync(to, { recursive: true })
  const files = []
  for (const { name, packs, path } of archives) {
    const file = join(to, `${name}.tar`)
    const fd = openSync(file, 'w')
    for (const pack of packs)
      for await (const frame of repository.frames(pack, { pool })) writeSync(fd, frame)
    files.push({ name, file, ...(path === undefined ? {} : { path }) })
  }
  const { bytes } = await repository.readSealed(manifestObject)
  const manifest: BackupManifest = JSON.parse(bytes.toString('utf8'))
  writeFileSync(join(to, 'backup_manifest'), Buffer.from(manifest.serverManifest, 'base64'))
  return { archives: files, manifest }
}

/** In kB, of this process. */
export function peakMemory(): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
}
