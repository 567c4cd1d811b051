import {
  chmodSync,
  chownSync,
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  futimesSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { syncDirectory } from '#lib/home.ts'
import { type TarEntry, TarReader } from '#postgres/wire/tar.ts'
import { filesError } from './errors.ts'

export interface Owner {
  uid: number
  gid: number
}

interface ReadEntry {
  entry: TarEntry
  content: Buffer
}

/**
 * Writes the entries of a tar archive below a directory, durably. @throws FILES_TARGET_OCCUPIED, FILES_LEAD_OUT, TAR_INVALID
 */
export function writeEntries(o: {
  archive: Buffer
  to: string
  only?: readonly string[] | undefined
  owner?: Owner | undefined
}): { entries: number; count: number; bytes: number } {
  const all = readEntries(o.archive)
  refuseWaysOut(all)
  const wanted = all.filter(({ entry }) => isWanted(entry.path, o.only))
  mkdirSync(o.to, { recursive: true, mode: 0o700 })
  for (const member of membersOf(wanted)) clear(join(o.to, member), member)
  for (const one of wanted) write(one, o)
  // From the inside out, since a directory's mode may forbid writing and its time changes with what it holds.
  for (const { entry } of wanted.toReversed()) if (entry.type === 'directory') finishDirectory(entry, o)
  syncDirectory(o.to)
  const files = wanted.filter(({ entry }) => entry.type !== 'directory')
  const bytes = files.reduce((sum, { content }) => sum + content.length, 0)
  return { entries: wanted.length, count: files.length, bytes }
}

function readEntries(archive: Buffer): ReadEntry[] {
  const entries: ReadEntry[] = []
  const reader = new TarReader({
    entry: entry => void entries.push({ entry, content: Buffer.alloc(0) }),
    // The archive comes as a whole, and so does each content.
    data: bytes => {
      const last = entries.at(-1) as ReadEntry
      last.content = bytes
    },
  })
  reader.push(archive)
  reader.end()
  return entries
}

/** What lies below a link would be written to where the link points. */
function refuseWaysOut(entries: readonly ReadEntry[]): void {
  const links = new Set(
    entries.filter(({ entry }) => entry.type === 'symlink').map(({ entry }) => entry.path),
  )
  const below = entries.find(({ entry }) => parentsOf(entry.path).some(parent => links.has(parent)))
  if (below) throw filesError('FILES_LEAD_OUT', { path: below.entry.path })
}

function parentsOf(path: string): string[] {
  const parts = path.split('/')
  return parts.slice(1).map((_, at) => parts.slice(0, at + 1).join('/'))
}

function isWanted(path: string, only: readonly string[] | undefined): boolean {
  return !only || only.some(one => path === one || path.startsWith(`${one}/`))
}

function membersOf(entries: readonly ReadEntry[]): Set<string> {
  return new Set(entries.map(({ entry }) => entry.path.split('/')[0] as string))
}

/** Takes an empty directory away; anything else stays and is told. */
function clear(path: string, member: string): void {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (!stats) return
  if (!stats.isDirectory() || readdirSync(path).length > 0)
    throw filesError('FILES_TARGET_OCCUPIED', { path: member })
  rmdirSync(path)
}

function write({ entry, content }: ReadEntry, o: { to: string; owner?: Owner | undefined }): void {
  const path = join(o.to, entry.path)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  if (entry.type === 'directory') mkdirSync(path, { recursive: true, mode: 0o700 })
  else if (entry.type === 'symlink') {
    symlinkSync(entry.link as string, path)
    const owner = ownerOf(entry, o.owner)
    if (owner) lchownSync(path, owner.uid, owner.gid)
  } else writeFile(path, entry, content, ownerOf(entry, o.owner))
}

function writeFile(path: string, entry: TarEntry, content: Buffer, owner: Owner | undefined): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    writeFileSync(fd, content)
    // Mode after owner: a change of owner takes the set-user-id bit away.
    if (owner) fchownSync(fd, owner.uid, owner.gid)
    fchmodSync(fd, entry.mode)
    futimesSync(fd, entry.modifiedAt, entry.modifiedAt)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function finishDirectory(entry: TarEntry, o: { to: string; owner?: Owner | undefined }): void {
  const path = join(o.to, entry.path)
  const owner = ownerOf(entry, o.owner)
  if (owner) chownSync(path, owner.uid, owner.gid)
  syncDirectory(path)
  chmodSync(path, entry.mode)
  utimesSync(path, entry.modifiedAt, entry.modifiedAt)
}

function ownerOf({ uid, gid }: TarEntry, given: Owner | undefined): Owner | undefined {
  return process.geteuid?.() === 0 ? (given ?? { uid, gid }) : undefined
}
