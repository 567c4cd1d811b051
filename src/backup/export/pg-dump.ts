import { execFile } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { exportError } from './errors.ts'

export interface PgDump {
  path: string
  /** Such as `15.18`. */
  version: string
  major: number
}

/** Where packages put PostgreSQL's client programs, besides PATH. */
const packageDirectories = [
  '/usr/lib/postgresql/*/bin',
  '/usr/pgsql-*/bin',
  '/opt/homebrew/opt/postgresql@*/bin',
  '/opt/homebrew/opt/libpq/bin',
  '/usr/local/opt/postgresql@*/bin',
  '/usr/local/opt/libpq/bin',
  '/Applications/Postgres.app/Contents/Versions/*/bin',
]

/** Directories that may hold pg_dump, most wanted first: the configured one, PATH, then the packages' places. */
export function pgDumpDirectories(o: { bin?: string | undefined; path?: string | undefined }): string[] {
  const given = o.bin ? [o.bin, join(o.bin, 'bin')] : []
  const inPath = (o.path ?? '').split(delimiter).filter(directory => directory !== '')
  return [...new Set([...given, ...inPath, ...globSync(packageDirectories)].map(one => resolve(one)))]
}

/**
 * The pg_dump that fits a server: of its own major version, else the oldest newer one (pg_dump reads older servers,
 * never newer ones).
 * @throws EXPORT_TOOL_MISSING
 */
export async function findPgDump(o: { major: number; directories: readonly string[] }): Promise<PgDump> {
  const paths = o.directories.map(directory => join(directory, 'pg_dump')).filter(path => existsSync(path))
  const found = (await Promise.all(paths.map(readVersion))).filter(one => one !== undefined)
  const best = choosePgDump(found, o.major)
  if (best) return best
  const seen = found.map(one => `${one.path} is of version ${one.version}`)
  const words = seen.length > 0 ? `Only older ones were found: ${seen.join(', ')}.` : 'None was found.'
  throw exportError('EXPORT_TOOL_MISSING', { major: o.major, found: words })
}

/** Of equals the first stays. */
export function choosePgDump(found: readonly PgDump[], major: number): PgDump | undefined {
  const usable = found.filter(one => one.major >= major)
  return usable.toSorted((a, b) => a.major - b.major)[0]
}

async function readVersion(path: string): Promise<PgDump | undefined> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 20_000 })
    const version = /(\d+(?:\.\d+)?)/.exec(stdout)?.[1]
    return version === undefined ? undefined : { path, version, major: Number.parseInt(version, 10) }
  } catch {
    // Not ours to mend: a program that does not even say its version is none.
    return undefined
  }
}
