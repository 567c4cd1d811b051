import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { adoptOwner } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { codeOf, diskFailure } from './disk-failures.ts'
import { walk } from './disk-listing.ts'
import { storageError } from './errors.ts'
import { assertKey, assertPrefix, sizeOf } from './keys.ts'
import type { ObjectInfo, Storage } from './storage.ts'

// No key begins with a dot, so what is being written can neither be listed nor asked for.
const incomingName = '.incoming'
// Writing one object takes minutes at worst; an older file has lost its writer.
const leftoverAfterMs = 3_600_000
// Linux takes at most 1024 pieces at once (IOV_MAX).
const piecesAtOnce = 1024
// Someone else may remove the directory again, when it is empty, between its making and the object's arrival.
const publishTries = 10
// More than a disk needs to be busy, less than libuv's threads could be starved by.
const deletesAtOnce = 16
const rememberedDirectories = 10_000

/**
 * A directory as storage. An object is written to a file in .incoming, synced, and then renamed or linked to its place;
 * every directory that got a new entry is synced before the call resolves. link() decides putNew: it never overwrites,
 * also between processes and over NFS. Directories are 0700, files 0600; in a directory of another user root leaves
 * what it makes to that user.
 */
export class DiskStorage implements Storage {
  readonly description: string
  readonly conditional = true
  readonly #root: string
  readonly #incoming: string
  /** Directories whose own entry this process has seen synced. */
  readonly #settled = new Set<string>()

  private constructor(root: string) {
    this.#root = root
    this.#incoming = join(root, incomingName)
    this.description = pathToFileURL(root).href
  }

  /**
   * Opens the directory and removes what killed writers left in it. It is made by the first write when only itself is
   * absent: where its parent is too, a disk is more likely not mounted.
   * @throws STORAGE_REFUSED
   */
  static async open(o: { root: string; log: Log }): Promise<DiskStorage> {
    const storage = new DiskStorage(o.root)
    const parent = dirname(o.root)
    if (!(await storage.#guard('', () => stat(parent).catch(absent))))
      throw storageError('STORAGE_REFUSED', {
        storage: storage.description,
        reason: `there is no directory ${parent}`,
        mend: 'Mount the disk it is on, or make the directory.',
      })
    await storage.#clean(o.log)
    return storage
  }

  async put(key: string, data: readonly Uint8Array[], options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#store(key, data, options.signal, async (file, path) => {
      await rename(file, path)
      return true
    })
  }

  async putNew(
    key: string,
    data: readonly Uint8Array[],
    options: { signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const path = this.#path(key)
    // Saves writing the object in vain; link() decides all the same.
    if (await this.#statOf(key)) {
      await this.#guard(key, () => this.#syncUpwards(dirname(path)))
      return false
    }
    return this.#store(key, data, options.signal, linkTo)
  }

  async get(
    key: string,
    options: { offset?: number; length?: number; signal?: AbortSignal } = {},
  ): Promise<Buffer> {
    const path = this.#path(key)
    return this.#guard(key, async () => {
      options.signal?.throwIfAborted()
      const file = await open(path, 'r').catch(absent)
      if (!file) throw storageError('STORAGE_NOT_FOUND', { key, storage: this.description })
      try {
        const stats = await file.stat()
        if (!stats.isFile()) throw storageError('STORAGE_NOT_FOUND', { key, storage: this.description })
        const from = Math.min(options.offset ?? 0, stats.size)
        const bytes = Math.min(options.length ?? Number.POSITIVE_INFINITY, stats.size - from)
        return await this.#read(key, file, from, bytes, options.signal)
      } finally {
        await file.close()
      }
    })
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const stats = await this.#statOf(key)
    return stats && { key, bytes: stats.size }
  }

  async *list(prefix: string, options: { after?: string } = {}): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix)
    try {
      yield* walk({ root: this.#root, prefix, after: options.after ?? '' })
    } catch (error) {
      throw diskFailure(error, { key: prefix, storage: this.description })
    }
  }

  async delete(keys: readonly string[]): Promise<void> {
    const paths = keys.map(key => this.#path(key))
    const changed = new Set<string>()
    for (let at = 0; at < paths.length; at += deletesAtOnce) {
      await Promise.all(
        paths.slice(at, at + deletesAtOnce).map((path, index) =>
          this.#guard(keys[at + index] as string, async () => {
            if (await removed(path)) changed.add(dirname(path))
          }),
        ),
      )
    }
    for (const directory of changed) await this.#guard(directory, () => this.#shrink(directory))
  }

  async close(): Promise<void> {}

  #path(key: string): string {
    assertKey(key)
    return join(this.#root, key)
  }

  async #guard<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw diskFailure(error, { key, storage: this.description })
    }
  }

  async #statOf(key: string): Promise<Stats | undefined> {
    const path = this.#path(key)
    const stats = await this.#guard(key, () => stat(path).catch(absent))
    return stats?.isFile() ? stats : undefined
  }

  /** `publish` gives the written file its name, and says whether it did. */
  async #store(
    key: string,
    data: readonly Uint8Array[],
    signal: AbortSignal | undefined,
    publish: (file: string, path: string) => Promise<boolean>,
  ): Promise<boolean> {
    const path = this.#path(key)
    sizeOf(key, data)
    const file = join(this.#incoming, `${process.pid}-${randomUUID()}`)
    return this.#guard(key, async () => {
      try {
        await this.#write(file, data, signal)
        const done = await this.#publish(file, path, publish)
        await this.#syncUpwards(dirname(path))
        return done
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error
        const reason = 'its directory is gone'
        throw storageError('STORAGE_UNAVAILABLE', { storage: this.description, reason }, { cause: error })
      } finally {
        // After a rename there is none.
        await unlink(file).catch(() => {})
      }
    })
  }

  async #write(path: string, data: readonly Uint8Array[], signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted()
    const file = await this.#create(path)
    try {
      adoptOwner(path)
      await writeAll(file, data, signal)
      // Also after an error nothing is tried again on this file: the kernel may have dropped the pages it could not write.
      await file.sync()
    } finally {
      await file.close()
    }
    signal?.throwIfAborted()
  }

  async #create(path: string): Promise<FileHandle> {
    try {
      return await open(path, 'wx', 0o600)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error
      await this.#makeDirectory(this.#incoming)
      return await open(path, 'wx', 0o600)
    }
  }

  async #publish(
    file: string,
    path: string,
    publish: (file: string, path: string) => Promise<boolean>,
  ): Promise<boolean> {
    for (let tries = 1; ; tries++) {
      try {
        return await publish(file, path)
      } catch (error) {
        if (codeOf(error) !== 'ENOENT' || tries === publishTries) throw error
        await this.#makeDirectory(dirname(path))
      }
    }
  }

  /** Makes what is missing from the root down. */
  async #makeDirectory(path: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await mkdir(path, { mode: 0o700 })
        adoptOwner(path)
        this.#settled.delete(path)
        return await syncDirectory(dirname(path))
      } catch (error) {
        const code = codeOf(error)
        if (code === 'EEXIST') return
        if (code !== 'ENOENT' || tries === publishTries || path === this.#root) throw error
        await this.#makeDirectory(dirname(path))
      }
    }
  }

  /** Makes the directory's entries durable, and once per directory those that lead to it, whoever made them. */
  async #syncUpwards(directory: string): Promise<void> {
    await syncDirectory(directory)
    if (directory === this.#root || this.#settled.has(directory)) return
    await this.#syncUpwards(dirname(directory))
    if (this.#settled.size >= rememberedDirectories) this.#settled.clear()
    this.#settled.add(directory)
  }

  /** Makes the removals durable and removes directories that are empty now. */
  async #shrink(directory: string): Promise<void> {
    for (let path = directory; path !== this.#root; path = dirname(path)) {
      try {
        this.#settled.delete(path)
        await rmdir(path)
      } catch (error) {
        const code = codeOf(error)
        if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOENT') throw error
        if (code === 'ENOENT') continue
        return await syncDirectory(path).catch(absent)
      }
    }
    await syncDirectory(this.#root)
  }

  async #read(
    key: string,
    file: FileHandle,
    from: number,
    bytes: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(bytes)
    let got = 0
    while (got < bytes) {
      signal?.throwIfAborted()
      const { bytesRead } = await file.read(buffer, got, bytes - got, from + got)
      if (bytesRead === 0)
        throw storageError('STORAGE_TRUNCATED', { key, got, expected: bytes, storage: this.description })
      got += bytesRead
    }
    return buffer
  }

  /** Only a convenience: a storage that cannot be written can still be read. */
  async #clean(log: Log): Promise<void> {
    const names = await readdir(this.#incoming).catch(() => [])
    for (const name of names) {
      const path = join(this.#incoming, name)
      const stats = await stat(path).catch(() => undefined)
      if (!stats || Date.now() - stats.mtimeMs < leftoverAfterMs) continue
      await rm(path, { force: true }).then(
        () => log.info({ path, bytes: stats.size }, 'leftover of a dead writer removed'),
        error => log.warn({ path, err: error }, 'leftover of a dead writer stays'),
      )
    }
  }
}

/** False when there is one already. */
async function linkTo(file: string, path: string): Promise<boolean> {
  try {
    await link(file, path)
    return true
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
    // Over NFS the answer to a link that was made can get lost; the repeated request then finds its own work.
    const [ours, theirs] = await Promise.all([stat(file), stat(path).catch(absent)])
    if (theirs?.isDirectory()) throw Object.assign(new Error(`${path} is a directory`), { code: 'EISDIR' })
    return theirs !== undefined && ours.ino === theirs.ino && ours.dev === theirs.dev
  }
}

async function removed(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    absent(error)
    return false
  }
}

/** Undefined for an entry that is not there; other errors stay errors. */
function absent(error: unknown): undefined {
  const code = codeOf(error)
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
}

async function writeAll(
  file: FileHandle,
  data: readonly Uint8Array[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let rest = data.filter(part => part.byteLength > 0)
  while (rest.length > 0) {
    signal?.throwIfAborted()
    const { bytesWritten } = await file.writev(rest.slice(0, piecesAtOnce))
    rest = after(rest, bytesWritten)
  }
}

/** What is left of the parts once so many bytes of them are written. */
function after(parts: Uint8Array[], bytes: number): Uint8Array[] {
  let index = 0
  let left = bytes
  while (index < parts.length && left >= (parts[index] as Uint8Array).byteLength) {
    left -= (parts[index] as Uint8Array).byteLength
    index++
  }
  const rest = parts.slice(index)
  if (left > 0) rest[0] = (rest[0] as Uint8Array).subarray(left)
  return rest
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
