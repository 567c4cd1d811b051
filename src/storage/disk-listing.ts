import type { Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from './disk-failures.ts'
import { compareKeys, isKey } from './keys.ts'
import type { ObjectInfo } from './storage.ts'

interface Walk {
  root: string
  prefix: string
  /** Exclusive; the empty text is before every key. */
  after: string
}

// Enough to keep a disk busy while the reader takes what it has.
const statsAtOnce = 32

/** Objects under the prefix in byte order of their keys; one directory's names at a time are in memory. */
export async function* walk(o: Walk): AsyncIterable<ObjectInfo> {
  yield* walkDirectory(o, o.prefix.slice(0, o.prefix.lastIndexOf('/') + 1))
}

/** `directory` is empty or ends with a slash. */
async function* walkDirectory(o: Walk, directory: string): AsyncIterable<ObjectInfo> {
  const places = (await entriesOf(join(o.root, directory)))
    .filter(entry => (entry.isDirectory() || entry.isFile()) && isKey(entry.name))
    // With its slash a directory sorts among the files as its objects do: a-b, a/c, a0.
    .map(entry => `${directory}${entry.name}${entry.isDirectory() ? '/' : ''}`)
    .filter(place => isWanted(o, place))
    .sort(compareKeys)
  let files: string[] = []
  for (const place of places) {
    if (!place.endsWith('/')) files.push(place)
    if (place.endsWith('/') || files.length === statsAtOnce) {
      yield* sizesOf(o.root, files)
      files = []
    }
    if (place.endsWith('/')) yield* walkDirectory(o, place)
  }
  yield* sizesOf(o.root, files)
}

/** Whether the object, or an object in the directory, may be one that was asked for. */
function isWanted({ prefix, after }: Walk, place: string): boolean {
  const isDirectory = place.endsWith('/')
  const underPrefix = place.startsWith(prefix) || (isDirectory && prefix.startsWith(place))
  return underPrefix && (place > after || (isDirectory && after.startsWith(place)))
}

/** Directories and files come and go while others are listed: what is gone is left out. */
async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (error) {
    return gone(error) ?? []
  }
}

async function* sizesOf(root: string, keys: readonly string[]): AsyncIterable<ObjectInfo> {
  const all = await Promise.all(keys.map(key => stat(join(root, key)).catch(gone)))
  for (const [index, stats] of all.entries())
    if (stats) yield { key: keys[index] as string, bytes: stats.size }
}

function gone(error: unknown): undefined {
  const code = codeOf(error)
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
}
