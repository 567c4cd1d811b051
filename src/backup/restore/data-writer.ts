import {
  chmodSync,
  chownSync,
  closeSync,
  fchmodSync,
  fchownSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { RunAs } from '#postgres/server/data-directory.ts'
import type { ManifestFile } from '#postgres/wire/manifest.ts'
import type { TarEntry, TarHandler } from '#postgres/wire/tar.ts'
import { backupError } from '../errors.ts'
import { layout } from '../layout.ts'
import { checkAgainst, type FileCheck } from './checksums.ts'
import { restoreError } from './errors.ts'
import { FileSettler } from './settle-files.ts'

export interface DataWriterOptions {
  backupId: string
  /** Exists and is empty. */
  dataDirectory: string
  /** Where tablespaces go, each in a directory of its oid. */
  tablespaceDirectory: string
  manifest: readonly ManifestFile[]
  runAs?: RunAs | undefined
  /** Without it nothing is waited for: a copy that is thrown away soon. */
  durable: boolean
}

// Without it PostgreSQL does not start: the last file of all.
const controlFile = 'global/pg_control'
const tablespaceMap = 'tablespace_map'
const archiveName = /^(base|\d+)$/
const defaultModes = { file: 0o600, directory: 0o700 } as const

/**
 * Writes the archives of a base backup as a data directory, and checks each file against the server's manifest while
 * it passes. global/pg_control is held back until finish().
 */
export class DataWriter {
  /** Files written so far. */
  files = 0
  readonly #o: DataWriterOptions
  readonly #expected: Map<string, ManifestFile>
  readonly #directories = new Set<string>()
  readonly #settler = new FileSettler()
  /** Kept in memory: small, and not written as they are. */
  readonly #held = new Map<string, Buffer>()
  #open: { path: string; fd: number; check?: FileCheck } | undefined
  #holding: { path: string; parts: Buffer[]; check?: FileCheck } | undefined

  constructor(options: DataWriterOptions) {
    this.#o = options
    this.#expected = new Map(options.manifest.map(file => [file.path, file]))
  }

  /**
   * What takes the entries of an archive: `base`, or the oid of a tablespace, which has a `path` on the server.
   * @throws BACKUP_OBJECT_DAMAGED when the name is neither: it becomes part of a path
   */
  archive(name: string, path: string | undefined): TarHandler {
    const place = this.#placeOf(name, path)
    return {
      entry: entry => this.#entry(place, entry),
      data: bytes => this.#data(bytes),
      done: () => this.#done(),
    }
  }

  /** @throws RESTORE_FILE_WRONG when a file of the manifest has not come */
  async finish(): Promise<void> {
    const [missing] = this.#expected.keys()
    if (missing !== undefined) throw this.#wrong(missing, 'it is not in the backup')
    this.#writeHeld(tablespaceMap)
    // Now nothing but pg_control is missing; a start that finds this and no restore_command gives up.
    this.#write(join(this.#o.dataDirectory, 'recovery.signal'), Buffer.alloc(0))
    await this.#settle()
    this.#writeHeld(controlFile)
    await this.#settle()
  }

  close(): void {
    if (this.#open) closeSync(this.#open.fd)
    this.#open = undefined
  }

  #placeOf(name: string, path: string | undefined): { root: string; prefix: string } {
    const { dataDirectory, tablespaceDirectory, backupId } = this.#o
    if (!archiveName.test(name)) {
      const reason = `it names an archive ${JSON.stringify(name.slice(0, 100))}`
      throw backupError('BACKUP_OBJECT_DAMAGED', { object: layout.complete(backupId), reason })
    }
    if (name === 'base') return { root: dataDirectory, prefix: '' }
    const link = join(dataDirectory, 'pg_tblspc', name)
    // One without a place of its own lies in the data directory itself (allow_in_place_tablespaces).
    const isElsewhere = path?.startsWith('/') === true
    const root = isElsewhere ? join(tablespaceDirectory, name) : link
    this.#directory(root, defaultModes.directory)
    if (isElsewhere) {
      this.#directory(dirname(link), defaultModes.directory)
      symlinkSync(root, link)
    }
    return { root, prefix: `pg_tblspc/${name}/` }
  }

  #entry({ root, prefix }: { root: string; prefix: string }, entry: TarEntry): void {
    const path = join(root, entry.path)
    if (entry.type === 'directory') this.#directory(path, entry.mode || defaultModes.directory)
    // The links of tablespaces, which are made anew: PostgreSQL makes no others.
    else if (entry.type === 'file') this.#begin(path, `${prefix}${entry.path}`, entry.mode)
  }

  #begin(path: string, name: string, mode: number): void {
    const expected = this.#expected.get(name)
    this.#expected.delete(name)
    // WAL that came along is checked when it is replayed.
    if (!expected && !name.startsWith('pg_wal/')) throw this.#wrong(name, 'the manifest does not know it')
    const check = expected && { check: checkAgainst(expected) }
    if (name === controlFile || name === tablespaceMap) {
      this.#holding = { path: name, parts: [], ...check }
      return
    }
    this.#open = { path, fd: this.#create(path, mode || defaultModes.file), ...check }
  }

  #data(bytes: Buffer): void {
    const target = this.#open ?? this.#holding
    target?.check?.take(bytes)
    if (this.#holding) this.#holding.parts.push(Buffer.from(bytes))
    for (let at = 0; this.#open && at < bytes.length; ) at += writeSync(this.#open.fd, bytes, at)
  }

  #done(): void {
    const target = this.#open ?? this.#holding
    // A directory or link has nothing to end.
    if (!target) return
    const reason = target.check?.verdict()
    if (this.#open) closeSync(this.#open.fd)
    this.#open = undefined
    if (reason !== undefined) throw this.#wrong(target.path, reason)
    if (this.#holding) this.#held.set(this.#holding.path, Buffer.concat(this.#holding.parts))
    else if (this.#o.durable) this.#settler.add(target.path)
    this.#holding = undefined
    this.files++
  }

  #writeHeld(name: string): void {
    const bytes = this.#held.get(name)
    if (!bytes) return
    const content = name === tablespaceMap ? this.#remapped(bytes) : bytes
    this.#write(join(this.#o.dataDirectory, name), content)
  }

  /** Lines `<oid> <path>`: PostgreSQL makes the links anew from them (xlogrecovery.c, read_tablespace_map). */
  #remapped(map: Buffer): Buffer {
    const lines = map.toString('utf8').split('\n')
    const mapped = lines.map(line => {
      const oid = /^(\d+) \//.exec(line)?.[1]
      return oid === undefined ? line : `${oid} ${escaped(join(this.#o.tablespaceDirectory, oid))}`
    })
    return Buffer.from(mapped.join('\n'))
  }

  #write(path: string, bytes: Buffer): void {
    const fd = this.#create(path, defaultModes.file)
    try {
      writeFileSync(fd, bytes)
    } finally {
      closeSync(fd)
    }
    if (this.#o.durable) this.#settler.add(path)
  }

  #create(path: string, mode: number): number {
    this.#directory(dirname(path), defaultModes.directory)
    const fd = openSync(path, 'wx', mode)
    // The umask may have taken bits away.
    fchmodSync(fd, mode)
    const { runAs } = this.#o
    if (runAs) fchownSync(fd, runAs.uid, runAs.gid)
    return fd
  }

  #directory(path: string, mode: number): void {
    if (this.#directories.has(path)) return
    const { runAs } = this.#o
    const parent = dirname(path)
    const isInside = [this.#o.dataDirectory, this.#o.tablespaceDirectory].some(root =>
      parent.startsWith(root),
    )
    if (isInside) this.#directory(parent, defaultModes.directory)
    mkdirSync(path, { mode, recursive: true })
    chmodSync(path, mode)
    if (runAs) chownSync(path, runAs.uid, runAs.gid)
    this.#directories.add(path)
  }

  async #settle(): Promise<void> {
    if (!this.#o.durable) return
    for (const directory of this.#directories) this.#settler.add(directory)
    await this.#settler.finish()
  }

  #wrong(path: string, reason: string) {
    return restoreError('RESTORE_FILE_WRONG', { path, reason, backupId: this.#o.backupId })
  }
}

/** As PostgreSQL writes the map: a line break in a path has a backslash before it. */
function escaped(path: string): string {
  return path.replace(/[\\\n\r]/g, character => `\\${character}`)
}
