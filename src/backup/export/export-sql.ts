import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, linkSync, readdirSync, rmSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import pg from 'pg'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { adoptOwner, syncDirectory } from '#lib/home.ts'
import { databaseError } from '#postgres/client/errors.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import { exportError } from './errors.ts'
import { findPgDump, type PgDump } from './pg-dump.ts'

export interface ExportSqlOptions {
  /** Who may read every table: the owner of the schema. */
  target: DatabaseTarget
  /** Directories that may hold pg_dump, most wanted first (pgDumpDirectories). */
  candidates: readonly string[]
  /** Without it `db-backup-YYYY-MM-DD.sql.gz` in `directory`, with the time too when that is there already. */
  out?: string | undefined
  directory: string
  clock: Clock
  onProgress?: (progress: { bytesDone: number }) => void
  signal?: AbortSignal | undefined
}

export interface ExportedSql {
  path: string
  /** Of the text before gzip. */
  rawBytes: number
  /** Such as `15.18`. */
  toolVersion: string
}

/**
 * Writes the whole database as SQL text, gzipped: `gunzip` and `psql` read it back without us. The file appears under
 * its name only when pg_dump ended well and its last line says that the dump is complete.
 * @throws EXPORT_TOOL_MISSING, EXPORT_FAILED, EXPORT_EXISTS, DATABASE_UNAVAILABLE
 */
export async function exportSql(o: ExportSqlOptions): Promise<ExportedSql> {
  if (o.out !== undefined && existsSync(o.out)) throw exportError('EXPORT_EXISTS', { path: resolve(o.out) })
  const major = await serverMajor(o.target)
  const tool = await findPgDump({ major, directories: o.candidates })
  const directory = o.out === undefined ? o.directory : dirname(resolve(o.out))
  const temporary = join(directory, `.sql-export.${process.pid}.partial`)
  removeLeftovers(directory)
  try {
    const rawBytes = await dumpInto(temporary, tool, o)
    const path = appear(temporary, o)
    syncDirectory(directory)
    return { path, rawBytes, toolVersion: tool.version }
  } catch (error) {
    if (error instanceof Failure) throw error
    throw exportError('EXPORT_FAILED', { reason: reasonOf(error) }, { cause: error })
  } finally {
    rmSync(temporary, { force: true })
  }
}

/** Names to try in turn: the Phase 2 guide's, then one for each second of the day. */
export function exportNames(at: Date): string[] {
  const [day, time] = at.toISOString().split('T') as [string, string]
  const second = time.slice(0, 8).replaceAll(':', '')
  return [`db-backup-${day}.sql.gz`, `db-backup-${day}-${second}.sql.gz`]
}

async function serverMajor(target: DatabaseTarget): Promise<number> {
  const client = new pg.Client({ ...target, connectionTimeoutMillis: 10_000 })
  // What is awaited rejects as well; an event that nobody hears would end the process.
  client.on('error', () => undefined)
  try {
    await client.connect()
    const { rows } = await client.query("SELECT current_setting('server_version_num') AS number")
    return Math.floor(Number(rows[0].number) / 10_000)
  } catch (cause) {
    throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 5 }, { cause })
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** Of an export that was killed, such as `.sql-export.123.partial`. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = /^\.sql-export\.(\d+)\.partial$/.exec(name)?.[1]
    if (pid !== undefined && !isThere(Number(pid))) rmSync(join(directory, name), { force: true })
  }
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

// The text compresses about as well as at the default level, in half the time.
const gzipLevel = 4
const pieceBytes = 256 * 1024

/** Returns the bytes of text. */
async function dumpInto(path: string, tool: PgDump, o: ExportSqlOptions): Promise<number> {
  const file = await open(path, 'wx', 0o600)
  adoptOwner(path)
  try {
    const text = new DumpText(o.onProgress)
    await runPgDump({ tool, text, file, ...o })
    text.refuseUnlessComplete()
    await file.sync()
    return text.bytes
  } finally {
    await file.close()
  }
}

// pg_dump's own complaint is a line or two; a server that repeats one must not fill our memory.
const stderrBytes = 16 * 1024

async function runPgDump(
  o: ExportSqlOptions & { tool: PgDump; text: DumpText; file: FileHandle },
): Promise<void> {
  const child = spawn(o.tool.path, ['--format=plain', '--no-password'], {
    env: dumpEnvironment(o.target, o.tool.major),
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(o.signal ? { signal: o.signal } : {}),
  })
  let said = ''
  child.stderr.on('data', chunk => {
    said = (said + chunk).slice(-stderrBytes)
  })
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  const zip = createGzip({ level: gzipLevel, chunkSize: pieceBytes })
  const written = pipeline(child.stdout, o.text, zip, source => o.file.writeFile(source))
  // A full disk must not leave a pg_dump that waits for its reader for ever.
  written.catch(() => child.kill())
  const [process, pipe] = await Promise.allSettled([ended, written])
  if (o.signal?.aborted) throw exportError('EXPORT_FAILED', { reason: 'it was cancelled.' })
  if (pipe.status === 'rejected') throw pipe.reason
  if (process.status === 'rejected') throw process.reason
  const [code, signal] = process.value
  if (code === 0) return
  const reason = said.trim() || `pg_dump ended with ${signal ?? `exit code ${code}`} and said nothing`
  throw exportError('EXPORT_FAILED', { reason })
}

/**
 * What pg_dump needs to connect (libpq, environment variables). The password goes through the environment, which only
 * this user and root can read, never through arguments, which everybody can.
 */
export function dumpEnvironment(target: DatabaseTarget, toolMajor: number): NodeJS.ProcessEnv {
  const { host, port, database, user, password, ssl } = target
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LC_ALL: 'C',
    PGHOST: host,
    PGPORT: String(port),
    PGDATABASE: database,
    PGUSER: user,
    ...(password === undefined ? {} : { PGPASSWORD: password }),
    ...(ssl ? sslEnvironment(ssl, toolMajor) : {}),
    PGAPPNAME: 'moonyetis export',
    PGCONNECT_TIMEOUT: '10',
  }
}

function sslEnvironment(ssl: NonNullable<DatabaseTarget['ssl']>, toolMajor: number): NodeJS.ProcessEnv {
  const checked = ssl === true || (typeof ssl === 'object' && ssl.rejectUnauthorized !== false)
  return checked ? { PGSSLMODE: 'verify-full', PGSSLROOTCERT: trusted(toolMajor) } : { PGSSLMODE: 'require' }
}

const certificateBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/cert.pem',
  '/etc/ssl/cert.pem',
]

/** The certificates that the operating system trusts, as Node's own connections do; libpq knows them since 16. */
function trusted(toolMajor: number): string {
  if (toolMajor >= 16) return 'system'
  return certificateBundles.find(path => existsSync(path)) ?? 'system'
}

// pg_dump of 2025 and later writes an \unrestrict line after its last words.
const lastWordsBytes = 512
const lastWords = '-- PostgreSQL database dump complete'

/** Counts what goes through and remembers its end. */
class DumpText extends Transform {
  bytes = 0
  #end = Buffer.alloc(0)
  readonly #onProgress: ExportSqlOptions['onProgress']

  constructor(onProgress: ExportSqlOptions['onProgress']) {
    super()
    this.#onProgress = onProgress
  }

  override _transform(chunk: Buffer, _encoding: string, done: (error: null, chunk: Buffer) => void): void {
    this.bytes += chunk.length
    this.#end = Buffer.concat([this.#end, chunk.subarray(-lastWordsBytes)]).subarray(-lastWordsBytes)
    this.#onProgress?.({ bytesDone: this.bytes })
    done(null, chunk)
  }

  refuseUnlessComplete(): void {
    if (this.#end.includes(lastWords)) return
    const reason =
      this.bytes === 0 ? 'pg_dump wrote nothing.' : 'the dump does not end as a complete one does.'
    throw exportError('EXPORT_FAILED', { reason })
  }
}

/** Gives the finished file its name. A link, unlike a rename, never replaces what somebody else made meanwhile. */
function appear(temporary: string, o: ExportSqlOptions): string {
  const names = exportNames(o.clock.now()).map(name => join(resolve(o.directory), name))
  const paths = o.out === undefined ? names : [resolve(o.out)]
  for (const path of paths) {
    try {
      linkSync(temporary, path)
      return path
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
  throw exportError('EXPORT_EXISTS', { path: basename(paths.at(-1) as string) })
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'ENOSPC' ? 'the disk is full.' : message
}
