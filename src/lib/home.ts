import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { libFailure } from './errors.ts'

/** Paths of one home directory; every one exists once openHome has returned (configFile excepted). */
export interface Home {
  root: string
  /** 0700: database password, session key, seed keys, tokens of the first start. */
  secrets: string
  /** 0700: player-facing keys. */
  secure: string
  /** 0700: certificates. */
  ssl: string
  /** 0700, disposable: sockets, pid + start-time records. */
  run: string
  /** 0700, durable: topology.json and node:sqlite files. */
  state: string
  logs: string
  postgres: string
  backups: string
  configFile: string
  /** run/NAME.sock, or a file in a private temp directory when that path is too long for a unix socket. */
  socket(name: string): string
}

// 104 bytes is the smallest sun_path among our systems (macOS); the margin leaves room for PostgreSQL's file names.
const longestSocketPath = 90

/** Creates what is missing of the home, with the modes above. Safe to call again and by several processes. */
export function openHome(root: string): Home {
  const at = resolve(root)
  mkdirSync(at, { recursive: true, mode: 0o755 })
  const directory = (name: string, mode: number) => makeDirectory(join(at, name), mode)
  const home: Home = {
    root: at,
    secrets: directory('.secrets', 0o700),
    secure: directory('.secure', 0o700),
    ssl: directory('.ssl', 0o700),
    run: directory('run', 0o700),
    state: directory('state', 0o700),
    logs: directory('logs', 0o755),
    postgres: directory('postgres', 0o755),
    backups: directory('backups', 0o700),
    configFile: join(at, 'config.json'),
    socket: name => {
      const path = join(home.run, `${name}.sock`)
      return Buffer.byteLength(path) <= longestSocketPath
        ? path
        : join(shortSocketDirectory(home), `${name}.sock`)
    },
  }
  return home
}

/** The secret without its final line break; undefined when there is none. */
export function readSecret(home: Home, name: string): string | undefined {
  try {
    return readFileSync(join(home.secrets, name), 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Reads the secret, or makes and durably stores it (0600). Of two processes at once, both get the first one's. */
export function ensureSecret(home: Home, name: string, make: () => string): string {
  const known = readSecret(home, name)
  if (known !== undefined) return known
  const path = join(home.secrets, name)
  makeDirectory(dirname(path), 0o700)
  const candidate = `${path}.${process.pid}.new`
  writeDurably(candidate, `${make()}\n`)
  try {
    // link() refuses an existing name, so the first writer wins and the file is never seen half written.
    linkSync(candidate, path)
    syncDirectory(dirname(path))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(candidate, { force: true })
  }
  return readSecret(home, name) as string
}

/** After return the file holds all of `data` even through a power cut; before that it holds what it held. */
export function writeDurably(path: string, data: string | Uint8Array, mode = 0o600): void {
  const directory = dirname(path)
  const temporary = join(directory, `.${basename(path)}.${process.pid}.tmp`)
  try {
    writeWhole(temporary, data, mode, foreignOwner(directory))
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  syncDirectory(directory)
}

function writeWhole(path: string, data: string | Uint8Array, mode: number, owner: Owner | undefined): void {
  const fd = openSync(path, 'w', mode)
  try {
    // The umask may have taken bits away, and a leftover of a killed run may have other ones.
    fchmodSync(fd, mode)
    if (owner) fchownSync(fd, owner.uid, owner.gid)
    writeFileSync(fd, data)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Makes renames and removals in the directory durable. */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** When root works in the home of an unprivileged user, what root makes there belongs to that user. */
export function adoptOwner(path: string): void {
  const owner = foreignOwner(dirname(path))
  if (owner) chownSync(path, owner.uid, owner.gid)
}

function makeDirectory(path: string, mode: number): string {
  const made = mkdirSync(path, { recursive: true, mode })
  if (made !== undefined) adoptOwner(path)
  // A private directory that became open is closed again; a user's stricter choice stays.
  const excess = statSync(path).mode & 0o777 & ~mode
  if (excess !== 0) chmodSync(path, statSync(path).mode & mode)
  return path
}

interface Owner {
  uid: number
  gid: number
}

function foreignOwner(directory: string): Owner | undefined {
  if (process.getuid?.() !== 0) return undefined
  const { uid, gid } = statSync(directory)
  return uid === 0 ? undefined : { uid, gid }
}

/**
 * The directory is written down in run/socket-directory, so that a command with another TMPDIR finds the same sockets.
 */
function shortSocketDirectory(home: Home): string {
  const record = join(home.run, 'socket-directory')
  const known = readIfThere(record)
  if (known !== undefined && isPrivateDirectory(known, home)) return known
  const hash = createHash('sha256').update(home.root).digest('hex').slice(0, 16)
  const inTemp = join(tmpdir(), `moonyetis-${hash}`)
  // A long TMPDIR (macOS, CI) would bring the problem back.
  const path =
    Buffer.byteLength(inTemp) <= longestSocketPath - 30 ? inTemp : join('/tmp', `moonyetis-${hash}`)
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const owner = foreignOwner(home.run)
  if (owner && lstatSync(path).uid === 0) chownSync(path, owner.uid, owner.gid)
  if (!isPrivateDirectory(path, home)) throw libFailure('SOCKET_DIRECTORY_UNSAFE', { path })
  writeDurably(record, path)
  return path
}

// The temp folder is everybody's: a directory somebody else laid there first would hand them our sockets.
function isPrivateDirectory(path: string, home: Home): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats?.isDirectory() === true && (stats.mode & 0o077) === 0 && stats.uid === statSync(home.run).uid
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}
