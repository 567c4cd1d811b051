import { constants } from 'node:fs'
import { lstat, open, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { NewTarEntry } from '#postgres/wire/tar-writer.ts'
import { filesError } from './errors.ts'

/** One entry of a file set; `content` is a file's. */
export interface SetEntry extends NewTarEntry {
  content?: Buffer
}

export interface ReadHome {
  entries: SetEntry[]
  bytes: number
  /** What was listed and then gone, or is no file, directory or link. */
  skipped: { path: string; reason: string }[]
}

/** What of a home is backed up; the rest is disposable, or has a backup of its own kind. */
const memberNames = ['.secrets', '.secure', '.ssl', 'config.json'] as const

// A file set is one object, and objects hold at most 64 MiB.
const usualLimitBytes = 56 * 1024 * 1024
// What writeDurably and ensureSecret write before the rename.
const temporary = /\.\d+\.(tmp|new)$/
// A file that is being replaced settles at once; one that is written all the time never does.
const attempts = 5
const pauseMs = 40

/**
 * Reads the members of a home, links as links, in ascending byte order of the paths. A file is read as it was at one
 * moment, or not at all.
 * @throws FILES_TOO_LARGE, FILES_UNREADABLE
 */
export async function readHome(
  root: string,
  o: { limitBytes?: number; signal?: AbortSignal | undefined } = {},
): Promise<ReadHome> {
  const reading = new Reading(root, o.limitBytes ?? usualLimitBytes, o.signal)
  for (const name of memberNames) await reading.add(name)
  const entries = reading.entries.sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))
  return { entries, bytes: reading.bytes, skipped: reading.skipped }
}

class Reading {
  readonly entries: SetEntry[] = []
  readonly skipped: ReadHome['skipped'] = []
  bytes = 0
  readonly #root: string
  readonly #limitBytes: number
  readonly #signal: AbortSignal | undefined

  constructor(root: string, limitBytes: number, signal: AbortSignal | undefined) {
    this.#root = root
    this.#limitBytes = limitBytes
    this.#signal = signal
  }

  async add(path: string): Promise<void> {
    this.#signal?.throwIfAborted()
    if (temporary.test(path)) return
    // Its bytes could not be found again under the name that Node makes of it.
    if (path.includes('\ufffd')) throw unreadable(path, 'its name is not UTF-8')
    try {
      await this.#take(path)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') this.#gone(path)
      else if (code === 'EACCES' || code === 'EPERM' || code === 'EIO') throw unreadable(path, message, error)
      else throw error
    }
  }

  async #take(path: string): Promise<void> {
    const stats = await lstat(join(this.#root, path))
    const { mode, uid, gid } = stats
    const facts = { path, mode: mode & 0o7777, uid, gid, modifiedAt: stats.mtimeMs / 1000 }
    if (stats.isSymbolicLink())
      this.entries.push({ ...facts, type: 'symlink', link: await readlink(join(this.#root, path)) })
    else if (stats.isFile()) await this.#takeFile(path)
    else if (stats.isDirectory()) {
      this.entries.push({ ...facts, type: 'directory' })
      for (const name of await readdir(join(this.#root, path))) await this.add(`${path}/${name}`)
    } else this.skipped.push({ path, reason: 'it is no file, directory or link' })
  }

  async #takeFile(path: string): Promise<void> {
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const entry = await this.#readFile(path)
      if (entry) {
        this.entries.push(entry)
        this.bytes += entry.content.length
        return
      }
      await delay(pauseMs)
    }
    throw unreadable(path, 'it changes while it is read, again and again')
  }

  /** Undefined when it changed meanwhile. */
  async #readFile(path: string): Promise<(SetEntry & { content: Buffer }) | undefined> {
    // A link that took the file's place must not lead out of the home.
    const file = await open(join(this.#root, path), constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      const before = await file.stat({ bigint: true })
      if (!before.isFile()) return undefined
      this.#refuseTooLarge(path, Number(before.size))
      const content = await file.readFile()
      const after = await file.stat({ bigint: true })
      const isSame = before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs
      if (!isSame || BigInt(content.length) !== before.size) return undefined
      const [mode, uid, gid] = [Number(after.mode) & 0o7777, Number(after.uid), Number(after.gid)]
      const modifiedAt = Number(after.mtimeNs / 1_000_000_000n)
      return { path, type: 'file', bytes: content.length, mode, uid, gid, modifiedAt, content }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ELOOP') return undefined
      throw error
    } finally {
      await file.close()
    }
  }

  #refuseTooLarge(path: string, bytes: number): void {
    if (this.bytes + bytes <= this.#limitBytes) return
    const files = [...this.entries.map(one => ({ path: one.path, bytes: one.bytes ?? 0 })), { path, bytes }]
    const largest = files.reduce((most, one) => (one.bytes > most.bytes ? one : most))
    throw filesError('FILES_TOO_LARGE', {
      directory: this.#root,
      limitMegabytes: Math.round(this.#limitBytes / 1_000_000),
      path: largest.path,
      megabytes: Math.ceil(largest.bytes / 1_000_000),
    })
  }

  /** A member that never was is none; what was listed a moment ago is told. */
  #gone(path: string): void {
    const isMember = memberNames.some(name => name === path)
    if (!isMember) this.skipped.push({ path, reason: 'it went while the backup was made' })
  }
}

function unreadable(path: string, reason: string, cause?: unknown) {
  return filesError('FILES_UNREADABLE', { path, reason }, { cause })
}
