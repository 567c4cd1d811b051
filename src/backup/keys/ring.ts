import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { adoptOwner, type Home, syncDirectory, writeDurably } from '#lib/home.ts'
import { type DataKey, dataKeyBytes, dataKeyOf, isDataKeyId } from './data-keys.ts'

export { type IdentitySources, identitiesFrom, type Recovery, recoveryFrom } from './identities.ts'

/**
 * The data keys of the newest chain of backups, one file of 32 bytes each in state/backup-keys/ (a directory, since
 * several processes add to it at once), and the identities that open older ones. Without a home all is in memory.
 */
export class KeyRing {
  readonly #identities: readonly string[]
  readonly #directory: string | undefined
  /** Of files that this ring has seen, and of a ring without a home. */
  readonly #keys = new Map<string, DataKey>()

  constructor(o: { home?: Home; identities?: readonly string[] }) {
    this.#identities = [...(o.identities ?? [])]
    this.#directory = o.home && openDirectory(o.home)
    this.remembered()
  }

  /** `AGE-SECRET-KEY-1...` */
  get identities(): readonly string[] {
    return this.#identities
  }

  /** Ids, in no order that means anything. */
  remembered(): readonly string[] {
    if (!this.#directory) return [...this.#keys.keys()]
    const present = readdirSync(this.#directory).filter(isDataKeyId)
    return present.filter(id => this.get(id) !== undefined)
  }

  get(id: string): DataKey | undefined {
    const known = this.#keys.get(id)
    if (known || !this.#directory || !isDataKeyId(id)) return known
    const key = readKey(join(this.#directory, id))
    // A file that is not what its name says is none; the key can still be had from the repository.
    if (key?.id !== id) return undefined
    this.#keys.set(id, key)
    return key
  }

  /** Durable when it returns, with a home. */
  remember(key: DataKey): void {
    if (this.#directory) writeDurably(join(this.#directory, key.id), key.bytes)
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
      if (this.#directory) rmSync(join(this.#directory, id), { force: true })
    }
    if (this.#directory && gone.length > 0) syncDirectory(this.#directory)
  }
}

function openDirectory(home: Home): string {
  const path = join(home.state, 'backup-keys')
  if (mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined) adoptOwner(path)
  return path
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
