import { spawn } from 'node:child_process'
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { userInfo } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { syncDirectory, writeDurably } from '#lib/home.ts'
import { renderAccess, renderIdentities, superuserName } from './access.ts'
import type { Binaries } from './binaries.ts'
import { postgresServerError } from './errors.ts'
import { readRecoveredFile } from './recovered-file.ts'
import { rememberedPort } from './settings.ts'

/** The unprivileged user that PostgreSQL runs as when this process is root. */
export interface RunAs {
  uid: number
  gid: number
}

export interface DataDirectoryOptions {
  dataDirectory: string
  binaries: Binaries
  runAs?: RunAs | undefined
}

const settingsFile = 'moonyetis.conf'
// initdb takes 1-3 s; a slow disk may need ten times that.
const initWithinMs = 180_000

/**
 * Creates the data directory unless it is there: made under another name and renamed when complete and on disk, so
 * that a killed initdb leaves nothing that looks like a database. Returns whether it was made now.
 * Throws POSTGRES_INIT_FAILED, POSTGRES_DIRECTORY_UNKNOWN, POSTGRES_VERSION_MISMATCH, POSTGRES_ACCOUNT_UNFIT.
 */
export async function initialiseDirectory(options: DataDirectoryOptions): Promise<boolean> {
  const { dataDirectory, binaries } = options
  if (isDataDirectory(dataDirectory, binaries)) return false
  const parent = dirname(dataDirectory)
  removeHalfMade(parent, dataDirectory)
  refuseUnfitAccount(options.runAs)
  const making = `${dataDirectory}.initdb-${process.pid}`
  try {
    await runInitdb({ ...options, dataDirectory: making })
  } catch (error) {
    rmSync(making, { recursive: true, force: true, maxRetries: 5 })
    throw error
  }
  appendFileSync(join(making, 'postgresql.conf'), `\ninclude_if_exists = '${settingsFile}'\n`)
  renameSync(making, dataDirectory)
  syncDirectory(parent)
  return true
}

/** Writes moonyetis.conf and who may connect; PostgreSQL reads them at its next start or reload. */
export function writeConfiguration(options: DataDirectoryOptions, settings: string): void {
  const { dataDirectory, runAs } = options
  const files = {
    [settingsFile]: settings,
    'pg_hba.conf': renderAccess({ closed: readRecoveredFile(dataDirectory) !== undefined }),
    'pg_ident.conf': renderIdentities(osUsers(runAs)),
  }
  for (const [name, text] of Object.entries(files)) {
    const path = join(dataDirectory, name)
    // Unchanged files stay as they are: a warm start then needs no fsync.
    if (readIfThere(path) === text) continue
    writeDurably(path, text, 0o600)
    if (runAs && process.getuid?.() === 0) chownSync(path, runAs.uid, runAs.gid)
  }
}

/** The port that the last start of this directory used. */
export function lastPort(dataDirectory: string): number | undefined {
  return rememberedPort(readIfThere(join(dataDirectory, settingsFile)) ?? '')
}

function isDataDirectory(dataDirectory: string, binaries: Binaries): boolean {
  const version = readIfThere(join(dataDirectory, 'PG_VERSION'))?.trim()
  if (version !== undefined) {
    if (Number(version) === binaries.major) return true
    throw postgresServerError('POSTGRES_VERSION_MISMATCH', {
      dataDirectory,
      found: version,
      wanted: binaries.version,
    })
  }
  if (!existsSync(dataDirectory)) return false
  // An empty directory (a mounted volume, say) is taken over; anything else may be somebody's data.
  if (readdirSync(dataDirectory).length > 0)
    throw postgresServerError('POSTGRES_DIRECTORY_UNKNOWN', { dataDirectory })
  rmSync(dataDirectory, { recursive: true })
  return false
}

function removeHalfMade(parent: string, dataDirectory: string): void {
  mkdirSync(parent, { recursive: true })
  const prefix = `${basename(dataDirectory)}.initdb-`
  for (const name of readdirSync(parent).filter(one => one.startsWith(prefix))) {
    // A killed parent may have left an initdb that still writes there.
    rmSync(join(parent, name), { recursive: true, force: true, maxRetries: 5 })
  }
}

function refuseUnfitAccount(runAs: RunAs | undefined): void {
  if (runAs) return
  if (process.getuid?.() === 0)
    throw postgresServerError('POSTGRES_ACCOUNT_UNFIT', { reason: 'it refuses to run as root' })
  ownUserName()
}

/** PostgreSQL needs the name behind its uid, both for initdb and to know who connects over the socket. */
function ownUserName(): string {
  try {
    return userInfo().username
  } catch (error) {
    const reason = `uid ${process.getuid?.()} has no entry in the password database`
    throw postgresServerError('POSTGRES_ACCOUNT_UNFIT', { reason }, { cause: error })
  }
}

function osUsers(runAs: RunAs | undefined): string[] {
  const names = [ownUserName()]
  if (runAs) {
    const line = (readIfThere('/etc/passwd') ?? '')
      .split('\n')
      .find(one => one.split(':')[2] === String(runAs.uid))
    if (line) names.push(line.split(':')[0] as string)
  }
  return names
}

async function runInitdb(options: DataDirectoryOptions): Promise<void> {
  const { dataDirectory, binaries, runAs } = options
  // initdb is for ever: collation, encoding and checksums cannot be changed later.
  const locale =
    binaries.major >= 17
      ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C']
      : ['--locale-provider=libc', '--locale=C.UTF-8']
  const authentication = ['--auth-local=peer', '--auth-host=scram-sha-256']
  const args = [
    '-D',
    dataDirectory,
    '-U',
    superuserName,
    '--encoding=UTF8',
    '--data-checksums',
    ...locale,
    ...authentication,
  ]
  const result = await run(join(binaries.directory, 'initdb'), args, runAs)
  if (result.code === 0) return
  const lines = result.output.trim().split('\n')
  const reason = lines.findLast(line => /error|fatal|could not|cannot/i.test(line)) ?? lines.at(-1)
  throw postgresServerError('POSTGRES_INIT_FAILED', {
    dataDirectory,
    reason,
    output: lines.slice(-20).join('\n'),
  })
}

function run(
  program: string,
  args: string[],
  runAs: RunAs | undefined,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const env = { PATH: '/usr/local/bin:/usr/bin:/bin', TZ: 'UTC', LC_ALL: 'C' }
    const child = spawn(program, args, {
      ...runAs,
      env,
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: initWithinMs,
    })
    let output = ''
    const take = (chunk: Buffer) => {
      output = (output + chunk).slice(-65_536)
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.once('error', reject)
    child.once('close', code => resolve({ code, output }))
  })
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
