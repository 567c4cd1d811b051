import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { chownSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, type TestContext, test } from 'node:test'
import type { BackupProgress } from '#backup/base/progress.ts'
import { layout } from '#backup/layout.ts'
import type { BackupMarker } from '#backup/model.ts'
import { verify } from '#backup/verify/verify.ts'
import { systemClock } from '#lib/clock.ts'
import { parseLsn, segmentName } from '#lib/lsn.ts'
import { superuserName } from '#postgres/server/access.ts'
import { type ArchivedServer, archivedServer, debianBin, noDebian } from '#test/backup/archiving.ts'
import { type BackupPlace, backupPlace, databaseAccess, unsealArchives } from '#test/backup/backing-up.ts'
import { cleanUp, testDirectory, testProgram } from '#test/unprivileged.ts'

const servers = [
  { name: 'the embedded PostgreSQL 18', bin: undefined, skip: false as const },
  { name: "Debian's PostgreSQL 15", bin: debianBin, skip: noDebian },
]

for (const { name, bin, skip } of servers) {
  describe(`a backup of ${name}`, { skip }, () => {
    test('holds database, log and files, and everything in it is proven when it is read again', async t => {
      const server = await archivedServer(t, { bin })
      const place = await backupPlace(t)
      const seen: BackupProgress[] = []
      const onProgress = (progress: BackupProgress) => void seen.push(progress)
      const { outcome, marker } = await place.backup(server.node, { label: "Ana's", onProgress })
      assert.equal(outcome, 'done')
      const { repository, pool } = place
      const report = await verify({ repository, pool, id: marker.id, clock: systemClock })
      assert.deepEqual(report.faults, [])
      assert.deepEqual(report.wholeBackups, [marker.id])
      assert.deepEqual(await repository.backup(marker.id), marker)
      assert.deepEqual(
        [marker.kind, marker.label, marker.database?.checksums, marker.files?.object],
        ['full', "Ana's", true, layout.files(marker.id)],
      )
      const phases = [...new Set(seen.map(one => one.phase))]
      assert.deepEqual(phases, ['files', 'connecting', 'checkpoint', 'data', 'wal', 'completing'])
      assert.equal(seen.at(-1)?.bytesDone, marker.database?.archives[0]?.rawBytes)
    })

    test('knows each file of the stream, the tablespaces too, by its place in the raw archive', async t => {
      const server = await archivedServer(t, { bin })
      const space = join(server.directory, 'space')
      makeOwn(space)
      await server.query(`CREATE TABLESPACE far LOCATION '${space}'`)
      await server.query('CREATE TABLE away TABLESPACE far AS SELECT generate_series(1, 20000) AS n')
      const place = await backupPlace(t)
      const { marker } = await place.backup(server.node, { kind: 'db' })
      const { archives, manifest } = await unsealArchives({
        ...place,
        marker,
        to: join(place.directory, 'raw'),
      })
      assert.deepEqual(
        archives.map(one => one.path),
        [space, undefined],
      )
      assert.equal(marker.files, undefined)
      const raw = new Map(archives.map(one => [one.name, readFileSync(one.file)]))
      const version = manifest.files.find(one => one.path === 'PG_VERSION')
      const offset = version?.offset ?? 0
      assert.equal(raw.get('base')?.toString('latin1', offset, offset + 2), bin ? '15' : '18')
      assert(manifest.files.some(one => one.archive === archives[0]?.name))
      for (const { name, rawBytes } of marker.database?.archives ?? [])
        assert.equal(raw.get(name)?.length, rawBytes)
      assert.equal(manifest.settings.block_size, '8192')
    })
  })
}

function makeOwn(directory: string): void {
  mkdirSync(directory, { mode: 0o700 })
  const { runAs } = testProgram()
  if (runAs) chownSync(directory, runAs.uid, runAs.gid)
}

describe("what PostgreSQL's own programs say of a backup of PostgreSQL 15", { skip: noDebian }, () => {
  test('pg_verifybackup, pg_amcheck and pg_checksums find nothing wrong', async t => {
    const server = await archivedServer(t, { bin: debianBin })
    await server.query(
      'CREATE TABLE much (id bigint PRIMARY KEY, word text); CREATE INDEX ON much (word); CREATE EXTENSION amcheck',
    )
    await server.query('INSERT INTO much SELECT n, md5(n::text) FROM generate_series(1, 50000) n')
    const place = await backupPlace(t)
    // Whoever writes while it is made leaves torn pages that only the log mends.
    const writing = writeAlong(server)
    const { marker } = await place.backup(server.node, { kind: 'db' })
    await writing.stop()
    const data = await unpack(t, place, marker)
    own(data, ['pg_verifybackup', data])
    const socket = join(data, '..')
    writeFileSync(
      join(data, 'moonyetis.conf'),
      `listen_addresses = ''\nunix_socket_directories = '${socket}'\nport = 5999\n`,
    )
    own(data, ['pg_ctl', '-D', data, '-w', '-l', join(socket, 'log'), 'start'])
    const stop = () => own(data, ['pg_ctl', '-D', data, '-m', 'fast', '-w', 'stop'])
    try {
      const access = ['-h', socket, '-p', '5999', '-U', superuserName]
      own(data, ['pg_amcheck', ...access, '-d', 'postgres', '--heapallindexed'])
      const count = own(data, ['psql', ...access, '-Atc', 'SELECT count(*) >= 50000 FROM much', 'postgres'])
      assert.equal(count.trim(), 't')
    } finally {
      stop()
    }
    own(data, ['pg_checksums', '--check', '-D', data])
  })
})

function writeAlong(server: ArchivedServer): { stop(): Promise<void> } {
  let stopped = false
  const run = async () => {
    for (let n = 1_000_000; !stopped; n += 500)
      await server.query(`INSERT INTO much SELECT n, md5(n::text) FROM generate_series(${n}, ${n + 499}) n`)
  }
  const running = run()
  return {
    stop: () => {
      stopped = true
      return running
    },
  }
}

/** A data directory made of the archives, with the log from the repository in its pg_wal. */
async function unpack(t: TestContext, place: BackupPlace, marker: BackupMarker): Promise<string> {
  const directory = testDirectory(t)
  const data = join(directory, 'data')
  mkdirSync(data, { mode: 0o700 })
  const { archives } = await unsealArchives({ ...place, marker, to: join(directory, 'raw') })
  execFileSync('tar', ['-xf', archives[0]?.file as string, '-C', data])
  cpSync(join(directory, 'raw', 'backup_manifest'), join(data, 'backup_manifest'))
  const { systemIdentifier = '' } = marker.database ?? {}
  for await (const { segment, key } of place.repository.segments(systemIdentifier, 1)) {
    const { bytes } = await place.repository.readSealed(key)
    writeFileSync(join(data, 'pg_wal', segment), bytes)
  }
  const { runAs } = testProgram()
  if (runAs) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, data])
  return data
}

/** Runs a program of PostgreSQL 15 as whom it may run. */
function own(cwd: string, [program = '', ...args]: string[]): string {
  const { runAs } = testProgram()
  return execFileSync(join(debianBin, program), args, {
    ...runAs,
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

describe('the log that a backup needs', () => {
  test('without an archive it is in the repository when the backup is complete', async t => {
    const server = await archivedServer(t)
    const place = await backupPlace(t)
    await server.write(20_000_000)
    const { marker } = await place.backup(server.node, { kind: 'db' })
    const { systemIdentifier, segmentBytes, start, stop } = marker.database ?? assert.fail()
    const stored = await Array.fromAsync(place.repository.segments(systemIdentifier, 1))
    const name = (lsn: string, less: bigint) => segmentName(1, (parseLsn(lsn) as bigint) - less, segmentBytes)
    assert.deepEqual([stored[0]?.segment, stored.at(-1)?.segment], [name(start, 0n), name(stop, 1n)])
  })

  test('with an archive nothing is complete before that has stored the log up to the end', async t => {
    const server = await archivedServer(t)
    const place = await backupPlace(t)
    let seen: string[] = []
    const untilStored = async (lsn: bigint) => {
      assert(lsn <= (await server.flushLsn()))
      seen = await place.stored()
      await nameLog(server, place, lsn)
    }
    const database = { ...databaseAccess(server.node), untilStored }
    const { marker } = await place.backup(server.node, { kind: 'db', database })
    assert.deepEqual(
      seen,
      marker.objects.map(one => one.key),
    )
  })

  test('an archive that comes to the end and has left something out makes the backup fail', async t => {
    const server = await archivedServer(t)
    const place = await backupPlace(t)
    const untilStored = (lsn: bigint) => nameLog(server, place, lsn, 1)
    const database = { ...databaseAccess(server.node), untilStored }
    await assert.rejects(place.backup(server.node, { kind: 'db', database }), { code: 'BACKUP_WAL_GAP' })
    assert.deepEqual(await place.stored(), [])
  })

  test('an archive that does not get that far makes the backup fail', async t => {
    const server = await archivedServer(t)
    const place = await backupPlace(t)
    const untilStored = () => Promise.reject(new Error('the archive is behind'))
    const database = { ...databaseAccess(server.node), untilStored }
    await assert.rejects(place.backup(server.node, { kind: 'db', database }), /the archive is behind/)
    assert.deepEqual(await place.stored(), [])
  })
})

/** The names that an archive would have given to the log before the position, except for the last ones. */
async function nameLog(server: ArchivedServer, place: BackupPlace, lsn: bigint, leaveOut = 0): Promise<void> {
  const [row] = await server.query<{ system: string; bytes: number }>(
    'SELECT system_identifier::text AS system, bytes_per_wal_segment AS bytes FROM pg_control_system(), pg_control_init()',
  )
  const { system = '', bytes = 0 } = row ?? {}
  const until = lsn - BigInt(leaveOut * bytes)
  for (let at = 0n; at < until; at += BigInt(bytes))
    await place.storage.putNew(layout.segment(system, segmentName(1, at, bytes)), [Buffer.from('WAL')])
}

describe('the data keys of a home', () => {
  test('are those of the newest chain only', async t => {
    const server = await archivedServer(t)
    const place = await backupPlace(t)
    const walKeys: string[] = []
    const rotateWalKey = async () => {
      const { id } = await place.repository.newDataKey()
      walKeys.push(id)
      return id
    }
    const database = { ...databaseAccess(server.node), rotateWalKey }
    const first = await place.backup(server.node, { database })
    await place.backup(undefined, { kind: 'files' })
    const second = await place.backup(server.node, { database })
    const newest = [...second.marker.dataKeys, walKeys.at(-1)].sort()
    assert.deepEqual([...place.repository.ring.remembered()].sort(), newest)
    const files = newest.map(id => `${place.repository.id}-${id}`)
    assert.deepEqual(readdirSync(join(place.home.state, 'backup-keys')).sort(), files)
    assert.equal(place.repository.ring.get(first.marker.dataKeys[0] as string), undefined)
    // The archive is down now, and needs its key when it comes back.
    const walKeysInUse = () => walKeys.slice(-1)
    const third = await place.backup(server.node, { walKeysInUse })
    const kept = [...third.marker.dataKeys, walKeys.at(-1)].sort()
    assert.deepEqual([...place.repository.ring.remembered()].sort(), kept)
  })
})

describe('a repository with a full backup', () => {
  test('holds no secret, key or password hash that could be read', async t => {
    const server = await archivedServer(t)
    await server.query(
      "SET password_encryption = 'scram-sha-256'; CREATE ROLE rich LOGIN PASSWORD 'hunter2hunter2'",
    )
    await server.query(
      "CREATE TABLE seeds AS SELECT 'seed-of-a-player-in-plain-text' AS seed FROM generate_series(1, 100)",
    )
    await server.query('CHECKPOINT')
    const place = await backupPlace(t)
    writeFileSync(join(place.home.secrets, 'session_key'), 'sessionsecretsessionsecret')
    writeFileSync(join(place.home.secure, 'player.key'), 'playersecretplayersecret')
    await place.backup(server.node)
    const hashes = await server.query<{ hash: string }>(
      'SELECT rolpassword AS hash FROM pg_authid WHERE rolpassword IS NOT NULL',
    )
    const secrets = [
      ...readdirSync(place.home.secrets).map(name => readFileSync(join(place.home.secrets, name))),
      ...readdirSync(join(place.home.state, 'backup-keys')).map(name =>
        readFileSync(join(place.home.state, 'backup-keys', name)),
      ),
      ...hashes.map(one => Buffer.from(one.hash)),
      ...[
        'hunter2hunter2',
        'playersecretplayersecret',
        'seed-of-a-player-in-plain-text',
        'SCRAM-SHA-256$',
      ].map(one => Buffer.from(one)),
    ].map(bytes => Buffer.from(bytes.toString('latin1').trim(), 'latin1'))
    assert(secrets.length >= 10)
    const files = filesBelow(join(place.directory, 'repository'))
    assert(files.length >= 6)
    for (const file of files) {
      const content = readFileSync(file)
      for (const secret of secrets)
        for (const form of [
          secret,
          Buffer.from(secret.toString('base64')),
          Buffer.from(secret.toString('hex')),
        ])
          assert(!content.includes(form) || isPublic(secret), `${file} holds a secret`)
    }
  })
})

/** The recipient, an age public key, is what the repository is encrypted for. */
function isPublic(secret: Buffer): boolean {
  return secret.toString('latin1').startsWith('age1')
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(one => one.isFile())
    .map(one => join(one.parentPath, one.name))
}

describe('the memory of a backup', () => {
  test('stays below 300 MB however much there is to back up', async t => {
    const server = await archivedServer(t)
    // Bytes that do not compress, so that the packs are as many as they can be.
    const row = "(SELECT string_agg(sha512((g * 100 + i)::text::bytea), '') FROM generate_series(1, 100) i)"
    await server.query(`CREATE TABLE noise AS SELECT ${row} AS bytes FROM generate_series(1, 24000) g`)
    const options = {
      directory: testDirectory(t),
      server: server.node.connection({ user: superuserName, database: 'postgres' }),
      leaseMs: 60_000,
      threads: 2,
    }
    const script = join(import.meta.dirname, '..', 'helpers', 'backup', 'backup-process.ts')
    const child = spawn(process.execPath, [script, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    cleanUp(t, () => child.kill('SIGKILL'))
    const lines: string[] = []
    for await (const line of createInterface({ input: child.stdout })) lines.push(line)
    const { done, peakKilobytes } = JSON.parse(lines.at(-1) ?? '{}')
    assert(done.rawBytes > 200_000_000, `${done.rawBytes} bytes are too few to tell`)
    t.diagnostic(`${Math.round(peakKilobytes / 1024)} MB for ${Math.round(done.rawBytes / 1e6)} MB of data`)
    assert(peakKilobytes < 300 * 1024, `it took ${peakKilobytes} kB`)
  })
})
