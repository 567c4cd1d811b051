import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, type TestContext, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { Failure } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { formatLsn, type Lsn, parseLsn, segmentName, segmentStart } from '#lib/lsn.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { bootstrapDatabase } from '#postgres/server/bootstrap.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import {
  type BaseBackupSink,
  type OpenOptions,
  ReplicationConnection,
  type TablespaceFacts,
  type WalSink,
} from '#postgres/wire/connection.ts'
import { crc32cHex, parseServerManifest, type ServerManifest } from '#postgres/wire/manifest.ts'
import { type TarEntry, TarReader } from '#postgres/wire/tar.ts'
import { checkSegment } from '#postgres/wire/wal-page.ts'
import { walkRecords } from '#postgres/wire/wal-records.ts'
import { newNode, withClient } from '#test/postgres-node.ts'
import { cleanUp, testDirectory, testProgram } from '#test/unprivileged.ts'
import { until } from '#test/until.ts'

const segmentBytes = 16 * 1024 * 1024
const superuser = { user: 'postgres', database: 'postgres' }
const passwords = { user: 'for-people', replication: 'for-the-archive' }
const openssl = '/usr/bin/openssl'
const debian = '/usr/lib/postgresql/15/bin'
const builds = [
  { name: 'embedded PostgreSQL 18', bin: testProgram().postgresBin, version: 180_000 },
  { name: 'PostgreSQL 15 of Debian', bin: debian, version: 150_000 },
]
/** Small, and no test cuts the power. */
const settings = {
  max_connections: 30,
  max_wal_size: '128MB',
  min_wal_size: '32MB',
  fsync: false,
  autovacuum: false,
}

for (const build of builds) {
  describe(build.name, skipWithout(build.bin), () => suite(build))
}

function skipWithout(path: string, mend = 'apt-get install postgresql-15'): { skip: string | false } {
  return { skip: existsSync(path) ? false : `needs ${path}: ${mend}` }
}

interface Build {
  name: string
  bin: string
  version: number
}

function suite(build: Build): void {
  let node: PostgresNode
  let directory = ''
  const endings: (() => unknown)[] = []
  const ends = { after: (work: () => unknown) => void endings.push(work) }

  before(async () => {
    directory = testDirectory(ends as Pick<TestContext, 'after'>)
    node = newNode(ends as Pick<TestContext, 'after'>, { ...buildOptions(build), directory })
    await node.initialise()
    await node.start(60_000)
    await bootstrapDatabase({ node, passwords, log: silentLog })
    await fill(node, directory)
  })
  after(async () => {
    for (const ending of endings) await ending()
  })

  test('says who it is, and keeps slots', async t => {
    const connection = await open(t, node)
    assert.equal(Math.floor(connection.serverVersion / 10_000), build.version / 10_000)
    const { systemIdentifier, timeline, flushLsn } = await connection.identifySystem()
    const [row] = await query(node, 'SELECT system_identifier::text AS id FROM pg_control_system()')
    assert.deepEqual([systemIdentifier, timeline], [row?.id, 1])
    assert.equal(await connection.show('wal_segment_size'), '16MB')
    assert.equal(await connection.readSlot('kept'), undefined)
    await connection.createSlot('kept', { reserveWal: true })
    const slot = await connection.readSlot('kept')
    assert.equal(slot?.restartTimeline, 1)
    assert((slot?.restartLsn ?? 0n) <= flushLsn)
    await assert.rejects(connection.createSlot('kept', { reserveWal: true }), failsWith('WIRE_SLOT_EXISTS'))
    await connection.dropSlot('kept')
    await assert.rejects(connection.dropSlot('kept'), failsWith('WIRE_SLOT_MISSING'))
    await connection.createSlot('passing', { reserveWal: false, temporary: true })
    assert.deepEqual(await connection.readSlot('passing'), {})
    await assert.rejects(connection.timelineHistory(7), failsWith('WIRE_REFUSED', /00000007\.history/))
    await connection.close()
    const other = await open(t, node)
    assert.equal(await other.readSlot('passing'), undefined)
  })

  for (const manifestChecksums of ['CRC32C', 'SHA256'] as const) {
    test(`gives a base backup of three archives whose manifest (${manifestChecksums}) fits every file`, async t => {
      const connection = await open(t, node)
      const backup = await take(connection, { manifestChecksums })
      const names = backup.archives.map(archive => archive.name)
      assert.equal(names.length, 3)
      assert.equal(names.at(-1), 'base.tar')
      const { manifest, tablespaces, result } = backup
      assert.deepEqual(
        tablespaces.map(({ oid, path }) => ({ name: oid ? `${oid}.tar` : 'base.tar', path: path ?? '' })),
        backup.archives.map(({ name, path }) => ({ name, path })),
      )
      const [range] = manifest.walRanges
      assert.deepEqual(range, { timeline: 1, start: result.start.lsn, end: result.end.lsn })
      const isNew = build.version >= 170_000
      const { systemIdentifier } = await connection.identifySystem()
      assert.deepEqual(
        [manifest.version, manifest.systemIdentifier],
        isNew ? [2, systemIdentifier] : [1, undefined],
      )
      if (manifestChecksums === 'CRC32C') compareWithManifest(backup)
      assert.equal(manifest.files[0]?.checksum?.length, manifestChecksums === 'CRC32C' ? 8 : 64)
      assert.equal(backup.progressed, backup.bytes)
    })
  }

  test('ends a base backup in an error when a page does not fit its checksum', async t => {
    const undo = await damagePage(node)
    const connection = await open(t, node)
    await assert.rejects(
      take(connection),
      failsWith('WIRE_PAGES_DAMAGED', /checksum verification failed in file/),
    )
    // The connection goes on, and who does not want to know gets the backup.
    await take(connection, { verifyChecksums: false })
    undo()
    await take(connection)
  })

  test('streams WAL that is the same as its own files, record by record', async t => {
    const connection = await open(t, node)
    const { systemIdentifier, flushLsn } = await connection.identifySystem()
    const start = segmentStart(flushLsn, segmentBytes)
    const wal = collector(start)
    const stream = await connection.streamWal({ start, timeline: 1 }, wal)
    const before = new Date()
    await query(node, 'INSERT INTO numbers SELECT generate_series(1, 50000)')
    const [row] = await query(node, 'SELECT pg_current_wal_flush_lsn()::text AS lsn')
    const flushed = parseLsn(row?.lsn ?? '') as Lsn
    await query(node, 'SELECT pg_switch_wal()')
    await until(() => wal.bytes >= segmentBytes)
    await stream.stop()
    const segment = wal.content().subarray(0, segmentBytes)
    const name = segmentName(1, start, segmentBytes)
    assert.equal(checkSegment(segment, { systemIdentifier, timeline: 1, start, segmentBytes }), undefined)
    assert(segment.equals(readFileSync(join(node.dataDirectory, 'pg_wal', name))))
    const summary = walkRecords(segment, { start, segmentBytes })
    assert.deepEqual([summary.brokenAt, summary.endsWithSwitch], [undefined, true])
    assert(flushed - start > 2_000_000n)
    assert((summary.lastCommitAt?.getTime() ?? 0) >= before.getTime() - 1)
    assert((summary.lastCommitAt?.getTime() ?? 0) <= Date.now())
    if (existsSync(join(build.bin, 'pg_waldump')))
      assert.equal(summary.records, countRecords(build, join(node.dataDirectory, 'pg_wal', name)))
    // Up to a flush position in its middle it is whole as well.
    const part = segment.subarray(0, Number(flushed - start))
    assert.equal(walkRecords(part, { start, segmentBytes }).lastRecordEnd, flushed)
  })

  test('waits with a commit for what the archive confirms, once it is synchronous', async t => {
    const connection = await open(t, node, { applicationName: 'wire' })
    await connection.createSlot('wire', { reserveWal: true })
    const { restartLsn = 0n } = (await connection.readSlot('wire')) ?? {}
    const start = segmentStart(restartLsn, segmentBytes)
    const wal = collector(start)
    const stream = await connection.streamWal({ slot: 'wire', start, timeline: 1 }, wal)
    cleanUp(t, async () => {
      await stream.stop()
      await connection.dropSlot('wire')
    })
    const [{ lsn } = { lsn: '' }] = await query(node, 'SELECT pg_current_wal_flush_lsn()::text AS lsn')
    const caughtUp = () => wal.end() >= (parseLsn(lsn) as Lsn)
    await until(caughtUp)
    stream.confirm({ write: wal.end(), flush: wal.end() })
    await query(node, "ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (wire)'")
    await query(node, 'SELECT pg_reload_conf()')
    cleanUp(t, async () => {
      await query(node, 'ALTER SYSTEM RESET synchronous_standby_names')
      await query(node, 'SELECT pg_reload_conf()')
    })
    const syncState =
      "SELECT sync_state, flush_lsn::text AS lsn FROM pg_stat_replication WHERE application_name = 'wire'"
    await until(async () => {
      stream.confirm({ write: wal.end(), flush: wal.end() })
      return (await query(node, syncState))[0]?.sync_state === 'sync'
    })
    let isDone = false
    const commit = query(node, 'INSERT INTO numbers VALUES (7)').then(() => {
      isDone = true
    })
    const waiting = "SELECT 1 AS one FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    await until(async () => (await query(node, waiting)).length > 0)
    assert.equal(isDone, false)
    await until(() => wal.turns > 0)
    stream.confirm({ write: wal.end(), flush: wal.end() })
    await commit
    const [told] = await query(node, syncState)
    assert((parseLsn(told?.lsn ?? '') ?? 0n) <= wal.end())
    const slot = await query(
      node,
      "SELECT restart_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = 'wire'",
    )
    assert((parseLsn(slot[0]?.lsn ?? '') ?? 0n) > restartLsn)
  })

  test('says that a slot is in use, and that WAL is gone', async t => {
    const connection = await open(t, node)
    await connection.createSlot('busy', { reserveWal: true })
    const { flushLsn } = await connection.identifySystem()
    const from = { start: segmentStart(flushLsn, segmentBytes), timeline: 1 }
    const stream = await connection.streamWal({ slot: 'busy', ...from }, collector(from.start))
    const other = await open(t, node)
    const second = () => other.streamWal({ slot: 'busy', ...from }, collector(from.start))
    await assert.rejects(second(), failsWith('WIRE_SLOT_IN_USE', /active/))
    await assert.rejects(other.dropSlot('busy'), failsWith('WIRE_SLOT_IN_USE'))
    await stream.stop()
    await other.dropSlot('busy')
    for (let round = 0; round < 4; round++) {
      await query(node, 'INSERT INTO numbers VALUES (1)')
      await query(node, 'SELECT pg_switch_wal()')
      await query(node, 'CHECKPOINT')
    }
    const oldest = { start: BigInt(segmentBytes), timeline: 1 }
    const gone = other.streamWal(oldest, collector(oldest.start)).then(old => old.ended)
    await assert.rejects(gone, failsWith('WIRE_WAL_REMOVED', /000000010000000000000001/))
    // Neither of them has lost its connection.
    await other.identifySystem()
    await connection.identifySystem()
  })

  test('is held up by a sink that is busy, and nothing piles up here', async t => {
    const connection = await open(t, node)
    const released = Promise.withResolvers<void>()
    let calls = 0
    const before = process.memoryUsage().arrayBuffers
    const backup = connection.baseBackup(
      { label: 'held up' },
      {
        ...nothing,
        data: () => {
          calls++
          return released.promise
        },
      },
    )
    const waiting = `SELECT wait_event AS event FROM pg_stat_activity WHERE backend_type = 'walsender'`
    await until(async () => /ClientWrite|WriteData/.test((await query(node, waiting))[0]?.event ?? ''))
    assert.equal(calls, 1)
    assert(process.memoryUsage().arrayBuffers - before < 8 * 1024 * 1024)
    released.resolve()
    await backup
    assert(calls > 100)
  })

  test('lets go of a backup that is called off, whether by signal or by close', async t => {
    const senders = "SELECT 1 AS one FROM pg_stat_activity WHERE backend_type = 'walsender'"
    const abort = new AbortController()
    const connection = await open(t, node, { signal: abort.signal })
    const slow = { label: 'slow', maxRateKilobytes: 1024 }
    const data = () => abort.abort()
    await assert.rejects(connection.baseBackup(slow, { ...nothing, data }), failsWith('WIRE_ABORTED'))
    await until(async () => (await query(node, senders)).length === 0)
    const second = await open(t, node)
    const begun = Promise.withResolvers<void>()
    const backup = second.baseBackup(slow, { ...nothing, data: () => begun.resolve() })
    await begun.promise
    await Promise.all([assert.rejects(backup, failsWith('WIRE_BROKEN', /closed/)), second.close()])
    await until(async () => (await query(node, senders)).length === 0)
  })

  test('breaks with the words of the server that ended it', async t => {
    const connection = await open(t, node)
    const { flushLsn } = await connection.identifySystem()
    const start = segmentStart(flushLsn, segmentBytes)
    const stream = await connection.streamWal({ start, timeline: 1 }, collector(start))
    await query(
      node,
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'",
    )
    await assert.rejects(stream.ended, failsWith('WIRE_BROKEN', /administrator command/))
  })

  test('is reached over loopback by password, and over TLS', {
    skip: skipWithout('/usr/bin/openssl').skip,
  }, async t => {
    const login = { host: '127.0.0.1', port: node.running?.port as number, user: 'moonyetis_replication' }
    const wrong = ReplicationConnection.open({ ...login, password: 'wrong' })
    await assert.rejects(wrong, failsWith('WIRE_LOGIN_REFUSED', /password authentication failed/))
    const ca = await enableTls(node, directory)
    cleanUp(t, async () => {
      await query(node, 'ALTER SYSTEM RESET ssl')
      await query(node, 'SELECT pg_reload_conf()')
    })
    const config = { ...login, password: passwords.replication }
    for (const ssl of [undefined, { ca, servername: 'localhost' }]) {
      const connection = await ReplicationConnection.open({ ...config, ssl })
      const backup = await take(connection)
      compareWithManifest(backup)
      const [row] = await query(
        node,
        "SELECT ssl::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'walsender'",
      )
      assert.equal(row?.ssl, String(ssl !== undefined))
      await connection.close()
    }
    const untrusted = ReplicationConnection.open({ ...config, ssl: { rejectUnauthorized: true } })
    await assert.rejects(untrusted, failsWith('WIRE_UNREACHABLE', /certificate/))
  })

  test('is followed onto the next timeline when a standby is promoted', async t => {
    const standby = await standbyOf(t, build, node)
    const connection = await open(t, standby)
    const { systemIdentifier, timeline, flushLsn } = await connection.identifySystem()
    assert.equal(timeline, 1)
    const start = segmentStart(flushLsn, segmentBytes)
    const old = collector(start)
    const stream = await connection.streamWal({ start, timeline: 1 }, old)
    await query(standby, 'SELECT pg_promote()')
    const end = await stream.ended
    assert(end !== 'stopped')
    assert.equal(end.nextTimeline, 2)
    assert.equal(old.end(), end.switchLsn)
    const history = await connection.timelineHistory(2)
    assert.equal(history.fileName, '00000002.history')
    assert.match(history.content.toString('utf8'), new RegExp(`^1\t${formatLsn(end.switchLsn)}\t`))
    // From exactly the end of the old timeline there is nothing left of it.
    const again = await connection.streamWal({ start: end.switchLsn, timeline: 1 }, collector(end.switchLsn))
    assert.deepEqual(await again.ended, end)

    const next = segmentStart(end.switchLsn, segmentBytes)
    const wal = collector(next)
    const second = await connection.streamWal({ start: next, timeline: 2 }, wal)
    await query(standby, 'INSERT INTO numbers VALUES (2)')
    const [row] = await query(standby, 'SELECT pg_current_wal_flush_lsn()::text AS lsn')
    const flushed = parseLsn(row?.lsn ?? '') as Lsn
    await until(() => wal.end() >= flushed)
    await second.stop()
    const content = wal.content()
    const expected = { systemIdentifier, timeline: 2, start: next, segmentBytes, end: wal.end() }
    assert.equal(checkSegment(content, expected), undefined)
    const summary = walkRecords(content, { start: next, segmentBytes })
    assert.equal(summary.brokenAt, undefined)
    assert(summary.lastRecordEnd >= flushed)
  })

  test('breaks a backup when the server is killed in its middle', async t => {
    const killed = await standbyOf(t, build, node)
    const connection = await open(t, killed)
    const data = () => {
      process.kill(killed.running?.pid as number, 'SIGKILL')
      return new Promise<void>(resolve => setImmediate(resolve))
    }
    const kill = { ...nothing, data: once(data) }
    const backup = connection.baseBackup({ label: 'killed', maxRateKilobytes: 1024 }, kill)
    // A walsender sees within a second or so that its postmaster is gone, and may still say so.
    await assert.rejects(backup, (error: unknown) => {
      assert(error instanceof Failure, String(error))
      assert.match(error.code, /^WIRE_(BROKEN|REFUSED)$/, error.message)
      return true
    })
    await assert.rejects(
      ReplicationConnection.open(killed.connection(superuser)),
      failsWith('WIRE_UNREACHABLE'),
    )
  })
}

function buildOptions(build: Build) {
  return { binaries: findBinaries({ bin: build.bin, programRoot: testProgram().programRoot }), settings }
}

async function open(
  t: TestContext,
  node: PostgresNode,
  options: OpenOptions = {},
): Promise<ReplicationConnection> {
  const connection = await ReplicationConnection.open(node.connection(superuser), options)
  cleanUp(t, () => connection.close())
  return connection
}

function query(node: PostgresNode, text: string): Promise<Record<string, string>[]> {
  return withClient(node.connection(superuser), async client => (await client.query(text)).rows)
}

function failsWith(code: string, words?: RegExp) {
  return (error: unknown) => {
    assert(error instanceof Failure, String(error))
    assert.equal(error.code, code, error.message)
    if (words) assert.match(error.message, words)
    return true
  }
}

/** Tables in the data directory and in two tablespaces. */
async function fill(node: PostgresNode, directory: string): Promise<void> {
  const { runAs } = testProgram()
  for (const name of ['fast', 'slow']) {
    const path = join(directory, name)
    mkdirSync(path, { mode: 0o700 })
    if (runAs) chownSync(path, runAs.uid, runAs.gid)
    await query(node, `CREATE TABLESPACE ${name} LOCATION '${path}'`)
    await query(
      node,
      `CREATE TABLE in_${name} TABLESPACE ${name} AS SELECT generate_series(1, 5000) AS number`,
    )
  }
  await query(node, 'CREATE TABLE numbers AS SELECT generate_series(1, 20000) AS number')
  await query(node, 'CHECKPOINT')
}

const nothing: BaseBackupSink = {
  begin: () => {},
  archive: () => {},
  data: () => {},
  manifest: () => {},
  manifestData: () => {},
  progress: () => {},
}

interface Taken {
  result: Awaited<ReturnType<ReplicationConnection['baseBackup']>>
  tablespaces: TablespaceFacts[]
  archives: { name: string; path: string; files: { entry: TarEntry; checksum: string }[] }[]
  manifest: ServerManifest
  bytes: number
  progressed: number
}

/** Takes a base backup and reads its archives as they come. */
async function take(
  connection: ReplicationConnection,
  options: Partial<Parameters<ReplicationConnection['baseBackup']>[0]> = {},
): Promise<Taken> {
  const archives: Taken['archives'] = []
  const manifest: Buffer[] = []
  let tablespaces: TablespaceFacts[] = []
  let reader: TarReader | undefined
  let [bytes, progressed] = [0, 0]
  const result = await connection.baseBackup(
    { label: 'a test', ...options },
    {
      begin: facts => {
        tablespaces = facts.tablespaces
      },
      archive: (name, path) => {
        reader?.end()
        const files: Taken['archives'][number]['files'] = []
        archives.push({ name, path, files })
        reader = filesReader(files)
      },
      data: chunk => {
        bytes += chunk.length
        reader?.push(chunk)
      },
      manifest: () => reader?.end(),
      manifestData: chunk => void manifest.push(Buffer.from(chunk)),
      progress: done => {
        progressed = done
      },
    },
  )
  return {
    result,
    tablespaces,
    archives,
    manifest: parseServerManifest(Buffer.concat(manifest)),
    bytes,
    progressed,
  }
}

function filesReader(files: { entry: TarEntry; checksum: string }[]): TarReader {
  let checksum = 0
  return new TarReader({
    entry: entry => {
      checksum = 0
      files.push({ entry, checksum: '' })
    },
    data: bytes => {
      checksum = crc32c(bytes, checksum)
    },
    done: () => {
      const last = files.at(-1)
      if (last) last.checksum = crc32cHex(checksum)
    },
  })
}

/** Every file of the manifest is in the archives as described, and no other. */
function compareWithManifest({ archives, manifest }: Taken): void {
  const found = archives.flatMap(({ name, files }) => {
    const prefix = name === 'base.tar' ? '' : `pg_tblspc/${name.replace('.tar', '')}/`
    return files
      .filter(({ entry }) => entry.type === 'file')
      .map(({ entry, checksum }) => ({ path: prefix + entry.path, bytes: entry.bytes, checksum }))
  })
  const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1)
  const described = manifest.files.map(({ path, bytes, checksum }) => ({ path, bytes, checksum }))
  assert.deepEqual(found.sort(byPath), described.sort(byPath))
}

/** Flips a byte of a table's page behind the server's back; returns the undo. */
async function damagePage(node: PostgresNode): Promise<() => void> {
  await query(node, 'CHECKPOINT')
  const [row] = await query(node, "SELECT pg_relation_filepath('numbers') AS path")
  const file = join(node.dataDirectory, row?.path ?? '')
  const at = 8192 + 4000
  const flip = () => {
    const handle = openSync(file, 'r+')
    const byte = Buffer.alloc(1)
    readSync(handle, byte, 0, 1, at)
    writeSync(handle, Buffer.from([(byte[0] as number) ^ 0xff]), 0, 1, at)
    closeSync(handle)
  }
  flip()
  return flip
}

interface Collector extends WalSink {
  readonly bytes: number
  readonly turns: number
  end(): Lsn
  content(): Buffer
}

function collector(start: Lsn): Collector {
  const pieces: Buffer[] = []
  let bytes = 0
  let turns = 0
  return {
    data: (at, piece, serverEnd) => {
      assert.equal(at, start + BigInt(bytes))
      assert(serverEnd >= at + BigInt(piece.length))
      pieces.push(Buffer.from(piece))
      bytes += piece.length
    },
    keepalive: () => {},
    turn: () => void turns++,
    end: () => start + BigInt(bytes),
    content: () => Buffer.concat(pieces),
    get bytes() {
      return bytes
    },
    get turns() {
      return turns
    },
  }
}

/** Records that begin in the segment, as PostgreSQL's own program counts them. */
function countRecords(build: Build, segment: string): number {
  const output = execFileSync(join(build.bin, 'pg_waldump'), [segment], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 256 * 1024 * 1024,
  })
  return output.split('\n').filter(line => line.startsWith('rmgr: ')).length
}

/** A self-made certificate for localhost; returns it. */
async function enableTls(node: PostgresNode, directory: string): Promise<string> {
  const { runAs } = testProgram()
  const [key, certificate] = [join(directory, 'tls.key'), join(directory, 'tls.crt')]
  execFileSync(
    openssl,
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'].concat([
      '-addext',
      'subjectAltName=DNS:localhost,IP:127.0.0.1',
      '-keyout',
      key,
      '-out',
      certificate,
    ]),
    { stdio: 'ignore' },
  )
  chmodSync(key, 0o600)
  if (runAs) for (const path of [key, certificate]) chownSync(path, runAs.uid, runAs.gid)
  await query(node, `ALTER SYSTEM SET ssl_cert_file = '${certificate}'`)
  await query(node, `ALTER SYSTEM SET ssl_key_file = '${key}'`)
  await query(node, 'ALTER SYSTEM SET ssl = on')
  await query(node, 'SELECT pg_reload_conf()')
  await until(async () => (await query(node, 'SHOW ssl'))[0]?.ssl === 'on')
  return readFileSync(certificate, 'utf8')
}

/** A standby that was made of a base backup and follows nobody: it waits for WAL that never comes. */
async function standbyOf(t: TestContext, build: Build, primary: PostgresNode): Promise<PostgresNode> {
  const directory = testDirectory(t)
  const connection = await open(t, primary)
  await lay(connection, directory)
  writeFileSync(join(directory, 'node-a', 'standby.signal'), '')
  const { runAs } = testProgram()
  if (runAs) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, directory])
  const standby = newNode(t, { ...buildOptions(build), directory })
  await standby.start(60_000)
  return standby
}

/** Unpacks a base backup with its WAL, by the tar of the system. */
async function lay(connection: ReplicationConnection, directory: string): Promise<void> {
  const files = new Map<string, number>()
  let file = 0
  const target = (name: string) => join(directory, name === 'base.tar' ? 'node-a' : name.replace('.tar', ''))
  await connection.baseBackup(
    { label: 'a standby', wal: true },
    {
      ...nothing,
      archive: name => {
        file = openSync(join(directory, name), 'w')
        files.set(name, file)
      },
      data: bytes => void writeSync(file, bytes),
    },
  )
  for (const [name, handle] of files) {
    closeSync(handle)
    mkdirSync(target(name), { mode: 0o700 })
    execFileSync('tar', ['-xpf', join(directory, name), '-C', target(name)])
  }
  const links = [...files.keys()].filter(name => name !== 'base.tar')
  const map = links.map(name => `${name.replace('.tar', '')} ${target(name)}\n`).join('')
  writeFileSync(join(directory, 'node-a', 'tablespace_map'), map)
}

function once(work: () => Promise<void>): () => void | Promise<void> {
  let isDone = false
  return () => {
    if (isDone) return undefined
    isDone = true
    return work()
  }
}
