import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { adoptOwner, type Home, syncDirectory, writeDurably } from '#lib/home.ts'
import { type DataKey, dataKeyBytes, dataKeyOf, isDataKeyId } from './data-keys.ts'

export { recoveryFrom } from './identities.ts'

/**
 * The data keys of the newest chain of backups in one repository, and the identities that open older ones. A key is a
 * file of 32 bytes, state/backup-keys/REPOSITORY-KEY: files, since several processes add to them at once, and named
 * after the repository, since a backup into another one has nothing to say about them. Without a home all is in memory.
 */
export class KeyRing {
  readonly #home: Home | undefined
  readonly #identities: readonly string[]
  readonly #directory: string | undefined
  /** What the names of this repository's files begin with. */
  readonly #prefix: string
  /** Of files that this ring has seen, and of a ring without a home. */
  readonly #keys = new Map<string, DataKey>()

  constructor(o: { home?: Home; identities?: readonly string[]; repositoryId?: string }) {
    this.#home = o.home
    this.#identities = [...(o.identities ?? [])]
    this.#directory = o.home && openDirectory(o.home)
    this.#prefix = o.repositoryId === undefined ? '' : `${o.repositoryId}-`
    this.remembered()
  }

  /** The ring of one repository: the same identities, that repository's keys. */
  of(repositoryId: string): KeyRing {
    const home = this.#home
    if (!home || !this.#directory) return this
    adoptNameless(this.#directory, repositoryId)
    return new KeyRing({ home, identities: this.#identities, repositoryId })
  }

  /** `AGE-SECRET-KEY-1...` */
  get identities(): readonly string[] {
    return this.#identities
  }

  /** Ids, in no order that means anything. */
  remembered(): readonly string[] {
    if (!this.#directory) return [...this.#keys.keys()]
    const own = readdirSync(this.#directory).filter(name => name.startsWith(this.#prefix))
    const ids = own.map(name => name.slice(this.#prefix.length)).filter(isDataKeyId)
    return ids.filter(id => this.get(id) !== undefined)
  }

  get(id: string): DataKey | undefined {
    const known = this.#keys.get(id)
    if (known || !this.#directory || !isDataKeyId(id)) return known
    const key = readKey(this.#pathOf(this.#directory, id))
    // A file that is not what its name says is none; the key can still be had from the repository.
    if (key?.id !== id) return undefined
    this.#keys.set(id, key)
    return key
  }

  /** Durable when it returns, with a home. */
  remember(key: DataKey): void {
    if (this.#directory) writeDurably(this.#pathOf(this.#directory, key.id), key.bytes)
    this.#keys.set(key.id, key)
  }

  /**
   * Forgets the other keys that this ring has seen, durably. A key that another process has added meanwhile stays: it
   * is of the newest chain.
   */
  keepOnly(ids: readonly string[]): void {
    const gone = [...this.#keys.keys()].filter(id => !ids.includes(id))
    for (const id of gone) {
      this.#keys.delete(id)
      if (this.#directory) rmSync(this.#pathOf(this.#directory, id), { force: true })
    }
    if (this.#directory && gone.length > 0) syncDirectory(this.#directory)
  }

  #pathOf(directory: string, id: string): string {
    return join(directory, `${this.#prefix}${id}`)
  }
}

function openDirectory(home: Home): string {
  const path = join(home.state, 'backup-keys')
  if (mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined) adoptOwner(path)
  return path
}

/** Keys used to be kept without the name of a repository, when a home had one. */
function adoptNameless(directory: string, repositoryId: string): void {
  const nameless = readdirSync(directory).filter(isDataKeyId)
  for (const id of nameless) {
    try {
      renameSync(join(directory, id), join(directory, `${repositoryId}-${id}`))
    } catch (error) {
      // Another process was quicker.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  if (nameless.length > 0) syncDirectory(directory)
}

function readKey(path: string): DataKey | undefined {
  try {
    const bytes = readFileSync(path)
    return bytes.length === dataKeyBytes ? dataKeyOf(bytes) : undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
