import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, describe, type TestContext, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { exportSql } from '#backup/export/export-sql.ts'
import { pgDumpDirectories } from '#backup/export/pg-dump.ts'
import { manualClock } from '#lib/clock.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import { superuserName } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'
import { newNode, withClient } from '#test/postgres-node.ts'
import { testProgram } from '#test/unprivileged.ts'

const debianBin = '/usr/lib/postgresql/15/bin'
const clock = manualClock('2026-11-25T14:30:05Z')
const isRoot = process.getuid?.() === 0

function newDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'export-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A pg_dump of the server's version that does what the shell text says. */
function pretendedTool(t: TestContext, script: string): string {
  const directory = newDirectory(t)
  const path = join(directory, 'pg_dump')
  const version = '[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 18.1" && exit 0'
  writeFileSync(path, `#!/bin/sh\n${version}\n${script}\n`)
  chmodSync(path, 0o755)
  return directory
}

async function failureOf(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  return work.then(
    () => assert.fail('it should have failed'),
    error => error,
  )
}

describe('exporting SQL from the embedded server', () => {
  let database: TestDatabase
  before(async () => {
    database = await openDatabase()
  })

  const run = (directory: string, candidates: string[], more: object = {}) =>
    exportSql({ target: database.target('owner'), candidates, directory, clock, ...more })

  test('without a pg_dump that is new enough, the words say what to install', async t => {
    const directory = newDirectory(t)
    const { code, message } = await failureOf(run(directory, existsSync(debianBin) ? [debianBin] : []))
    assert.equal(code, 'EXPORT_TOOL_MISSING')
    assert.match(message, /version 18 or newer/)
    assert.deepEqual(readdirSync(directory), [])
  })

  test('a dump whose last words are missing is refused and leaves nothing', async t => {
    const directory = newDirectory(t)
    const truncated = pretendedTool(t, 'echo "CREATE TABLE half ("')
    assert.match((await failureOf(run(directory, [truncated]))).message, /does not end as a complete one/)
    const empty = pretendedTool(t, 'exit 0')
    assert.match((await failureOf(run(directory, [empty]))).message, /wrote nothing/)
    assert.deepEqual(readdirSync(directory), [])
  })

  test('a pg_dump that fails at its end fails the export, with its own words', async t => {
    const directory = newDirectory(t)
    const words = 'echo "-- PostgreSQL database dump complete"; echo "connection lost" >&2'
    const failing = pretendedTool(t, `${words}; exit 1`)
    assert.match((await failureOf(run(directory, [failing]))).message, /connection lost/)
    const killed = pretendedTool(t, 'kill -9 $$')
    assert.match((await failureOf(run(directory, [killed]))).message, /SIGKILL/)
    assert.deepEqual(readdirSync(directory), [])
  })

  test('the password goes neither into arguments nor into words', async t => {
    const directory = newDirectory(t)
    const tool = pretendedTool(t, 'echo "$@ password=$PGPASSWORD" >&2; exit 1')
    const target = { ...database.target('owner'), password: 'hunter2' }
    const { message } = await failureOf(run(directory, [tool], { target }))
    assert.match(message, /--format=plain --no-password password=hunter2$/)
  })

  test('cancelled, it ends pg_dump and leaves nothing', async t => {
    const directory = newDirectory(t)
    const tool = pretendedTool(t, 'echo started; exec sleep 600')
    const cancel = new AbortController()
    const onProgress = () => cancel.abort()
    const { message } = await failureOf(run(directory, [tool], { signal: cancel.signal, onProgress }))
    assert.match(message, /cancelled/)
    assert.deepEqual(readdirSync(directory), [])
  })

  test('what a killed export left is removed, what a live one writes is not', async t => {
    const directory = newDirectory(t)
    const gone = execFileSync('sh', ['-c', 'echo $$'], { encoding: 'utf8' }).trim()
    writeFileSync(join(directory, `.sql-export.${gone}.partial`), '')
    writeFileSync(join(directory, `.sql-export.${process.ppid}.partial`), '')
    const tool = pretendedTool(t, 'echo "-- PostgreSQL database dump complete"')
    const { path } = await run(directory, [tool])
    const names = [`.sql-export.${process.ppid}.partial`, 'db-backup-2026-11-25.sql.gz']
    assert.deepEqual(readdirSync(directory).sort(), names)
    assert.equal(path, join(directory, 'db-backup-2026-11-25.sql.gz'))
  })

  test('an export replaces nothing', async t => {
    const directory = newDirectory(t)
    const tool = pretendedTool(t, 'echo "-- PostgreSQL database dump complete"')
    const paths = [await run(directory, [tool]), await run(directory, [tool])].map(one => one.path)
    assert.match(paths[1] as string, /db-backup-2026-11-25-143005\.sql\.gz$/)
    assert.equal((await failureOf(run(directory, [tool]))).code, 'EXPORT_EXISTS')
    const out = paths[0] as string
    assert.equal((await failureOf(run(directory, [tool], { out }))).code, 'EXPORT_EXISTS')
  })

  const noMount = isRoot ? false : 'needs root, to mount a small tmpfs: run the tests as root'
  test('a full disk leaves nothing', { skip: noMount }, async t => {
    const directory = join(newDirectory(t), 'small')
    mkdirSync(directory)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory])
    const tool = pretendedTool(
      t,
      'head -c 20000000 /dev/urandom; echo "-- PostgreSQL database dump complete"',
    )
    try {
      assert.match((await failureOf(run(directory, [tool]))).message, /disk is full/)
      assert.deepEqual(readdirSync(directory), [])
    } finally {
      execFileSync('umount', [directory])
    }
  })
})

const noDebian = existsSync(join(debianBin, 'pg_dump'))
  ? false
  : 'needs PostgreSQL 15 with pg_dump: apt-get install postgresql-15'

describe("exporting SQL from Debian's PostgreSQL 15", { skip: noDebian }, () => {
  async function startOld(t: TestContext): Promise<{ node: PostgresNode; target: DatabaseTarget }> {
    const { programRoot } = testProgram()
    const node = newNode(t, {
      binaries: findBinaries({ bin: debianBin, programRoot }),
      settings: { fsync: false },
    })
    await node.initialise()
    const { port, socketDirectory } = await node.start(60_000)
    return { node, target: { host: socketDirectory, port, database: 'postgres', user: superuserName } }
  }

  test('the file is what psql takes back, row for row', async t => {
    const { node, target } = await startOld(t)
    const at = (database: string) => node.connection({ user: superuserName, database })
    await withClient(at('postgres'), async client => {
      await client.query(
        'CREATE TABLE wins AS SELECT n, md5(n::text) AS word FROM generate_series(1, 5000) n',
      )
      await client.query('CREATE DATABASE again')
    })
    const directory = newDirectory(t)
    const seen: number[] = []
    const candidates = pgDumpDirectories({ bin: debianBin, path: '' })
    const onProgress = (progress: { bytesDone: number }) => seen.push(progress.bytesDone)
    const { path, rawBytes, toolVersion } = await exportSql({
      target,
      candidates,
      directory,
      clock,
      onProgress,
    })
    const text = gunzipSync(readFileSync(path))
    assert.equal(text.length, rawBytes)
    assert.equal(seen.at(-1), rawBytes)
    assert.match(toolVersion, /^15\./)
    const env = { PGHOST: target.host, PGPORT: String(target.port), PGUSER: superuserName }
    execFileSync(join(debianBin, 'psql'), ['-q', '-v', 'ON_ERROR_STOP=1', '-d', 'again'], {
      input: text,
      env,
    })
    const sum = "SELECT count(*), md5(string_agg(word, ',' ORDER BY n)) AS all FROM wins"
    const [before, after] = await Promise.all(
      ['postgres', 'again'].map(name => withClient(at(name), async client => (await client.query(sum)).rows)),
    )
    assert.deepEqual(after, before)
  })
})
