import type { KeyObject } from 'node:crypto'
import { type Clock, systemClock } from '#lib/clock.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import type { Storage } from '#storage/storage.ts'
import { requireSound } from './envelope/damage.ts'
import type { SealedWriter } from './envelope/writer.ts'
import { backupError } from './errors.ts'
import type { DataKey } from './keys/data-keys.ts'
import { recipientsOf } from './keys/recipients.ts'
import { KeyRing } from './keys/ring.ts'
import { signerKey, signerOf, signingKeyOf } from './keys/signing.ts'
import { layout } from './layout.ts'
import type { BackupMarker, HistoryFacts, ObjectFacts, RepositoryDescriptor, SealedHeader } from './model.ts'
import {
  markedBackups,
  type SegmentObject,
  segmentsOf,
  systemsOf,
  timelinesOf,
} from './repository/catalog.ts'
import { naming } from './repository/damage.ts'
import { DataKeys } from './repository/data-keys.ts'
import { ensureDescriptor, readDescriptor, type Trust, trustIn } from './repository/descriptor.ts'
import {
  type ReadOptions,
  SealedObjects,
  type SealOptions,
  type WriteSealedOptions,
} from './repository/sealed-objects.ts'
import { decodeSigned, encodeSigned } from './repository/signed.ts'

export type { SegmentObject } from './repository/catalog.ts'
export type { Trust } from './repository/descriptor.ts'
export type { ReadOptions, SealOptions, WriteSealedOptions } from './repository/sealed-objects.ts'

export interface CreateOptions {
  storage: Storage
  /** With backup_signing_key; see ensureBackupKeys. */
  home: Home
  /** Without it a ring of the home, with no identities. */
  ring?: KeyRing
  clock?: Clock
}

export interface OpenOptions {
  storage: Storage
  ring: KeyRing
  /** Given when the repository is this home's own: then it can be written. */
  home?: Home
  /** From recoveryFrom(): who the recovery key says signs this repository. */
  trustedSigner?: string
  log: Log
}

interface Parts {
  descriptor: RepositoryDescriptor
  storage: Storage
  ring: KeyRing
  trust: Trust
  home?: Home
  signingKey?: KeyObject
}

/**
 * A backup repository: objects that are written once, sealed or signed, in a storage. Whatever is read was proven to be
 * what the signer wrote to that place. Damage is told as BACKUP_OBJECT_DAMAGED or BACKUP_OBJECT_MISSING with the object
 * in the facts; failures of the storage rise as they are. docs/backup-format.md describes every byte.
 */
export class Repository {
  readonly id: string
  readonly storage: Storage
  /** Of this repository, whatever ring it was opened with. */
  readonly ring: KeyRing
  readonly trust: Trust
  /** Ed25519 public key, base64. */
  readonly signer: string
  readonly descriptor: RepositoryDescriptor
  readonly #home: Home | undefined
  readonly #signer: KeyObject
  readonly #signingKey: KeyObject | undefined
  readonly #dataKeys: DataKeys
  readonly #objects: SealedObjects

  private constructor({ descriptor, storage, ring, trust, home, signingKey }: Parts) {
    this.id = descriptor.id
    this.signer = descriptor.signer
    this.descriptor = descriptor
    this.storage = storage
    this.ring = ring.of(descriptor.id)
    this.trust = trust
    this.#home = home
    this.#signingKey = signingKey
    this.#signer = signerKey(descriptor.signer)
    this.#dataKeys = new DataKeys({ storage, ring: this.ring })
    const place = { repositoryId: this.id, signer: this.#signer }
    this.#objects = new SealedObjects({ ...place, storage, dataKeys: this.#dataKeys })
  }

  /**
   * Makes the repository where there is none, else opens it.
   * @throws BACKUP_NOT_SET_UP without a signing key, REPOSITORY_FOREIGN when it is of another signer
   */
  static async create(o: CreateOptions): Promise<Repository> {
    const { storage, home, ring = new KeyRing({ home }), clock = systemClock } = o
    const signingKey = signingKeyOf(home)
    if (!signingKey) throw backupError('BACKUP_NOT_SET_UP')
    const descriptor = await ensureDescriptor(storage, signingKey, clock.now())
    const { signer } = descriptor
    const trust = trustIn({ signer, repository: storage.description, homeSigner: signerOf(signingKey) })
    return new Repository({ descriptor, storage, ring, trust, home, signingKey })
  }

  /**
   * The repository of this home as it was when it last answered: what is written into it waits until the storage does.
   * @throws BACKUP_NOT_SET_UP, REPOSITORY_FOREIGN
   */
  static remembered(o: CreateOptions & { descriptor: RepositoryDescriptor }): Repository {
    const { storage, home, descriptor, ring = new KeyRing({ home }) } = o
    const signingKey = signingKeyOf(home)
    if (!signingKey) throw backupError('BACKUP_NOT_SET_UP')
    const { signer } = descriptor
    const trust = trustIn({ signer, repository: storage.description, homeSigner: signerOf(signingKey) })
    return new Repository({ descriptor, storage, ring, trust, home, signingKey })
  }

  /**
   * Opens what is there, for reading unless the home's key signs it.
   * @throws REPOSITORY_NOT_FOUND; REPOSITORY_FOREIGN when it is signed by neither the home nor the trusted signer
   */
  static async open({ storage, ring, home, trustedSigner, log }: OpenOptions): Promise<Repository> {
    const descriptor = await readDescriptor(storage)
    const signingKey = home && signingKeyOf(home)
    const trust = trustIn({
      signer: descriptor.signer,
      repository: storage.description,
      ...(signingKey && { homeSigner: signerOf(signingKey) }),
      ...(trustedSigner !== undefined && { trustedSigner }),
    })
    if (trust.warning !== undefined) log.warn({ signer: descriptor.signer }, trust.warning)
    const own = trust.by === 'home' ? { home, signingKey } : {}
    return new Repository({ descriptor, storage, ring, trust, ...own } as Parts)
  }

  /** The keys of the repository's owner, `age1...`; none when it is open for reading. */
  recipients(): string[] {
    return this.#home ? recipientsOf(this.#home) : []
  }

  /** A random key, stored for every recipient and remembered before it is returned. @throws BACKUP_NOT_SET_UP */
  async newDataKey(): Promise<DataKey> {
    this.#writingKey()
    return this.#dataKeys.create(this.recipients())
  }

  /** @throws BACKUP_KEY_NEEDED */
  dataKey(id: string): Promise<DataKey> {
    return this.#dataKeys.get(id, `${layout.dataKeys}${id}`)
  }

  /** Begins an object of at most 64 MiB; what finish() gives is stored by the caller. */
  seal(o: SealOptions): SealedWriter {
    return this.#objects.seal(o, o.pool, this.#writingKey())
  }

  /**
   * Seals and stores a whole object. `created` is false when one was there already: then that one stays, and `bytes`
   * and `sha256` are of the one that was not stored.
   */
  writeSealed(o: WriteSealedOptions): Promise<{ created: boolean; bytes: number; sha256: string }> {
    return this.#objects.write(o, this.#writingKey())
  }

  /** The whole content; every byte is proven before the first is returned. @throws BACKUP_KEY_NEEDED */
  readSealed(object: string, o: ReadOptions = {}): Promise<{ header: SealedHeader; bytes: Buffer }> {
    return this.#objects.read(object, o)
  }

  /** The content in the frames it was written in; the stored object is proven before the first. @throws BACKUP_KEY_NEEDED */
  frames(object: string, o: ReadOptions & Required<Pick<ReadOptions, 'pool'>>): AsyncIterable<Buffer> {
    return this.#objects.frames(object, o)
  }

  /** Only the header, not proven: for listings. */
  inspect(object: string): Promise<SealedHeader> {
    return this.#objects.inspect(object)
  }

  /** Reads the whole object and proves it without a secret: place, signature, every hash, and the facts if given. */
  checkSealed(object: string, expect?: ObjectFacts): Promise<SealedHeader> {
    return this.#objects.check(object, expect)
  }

  /** Plain JSON that the signature keeps in its place. False when one was there already and `replace` is not set. */
  async writeSigned(key: string, body: object, o: { replace?: boolean } = {}): Promise<boolean> {
    const bytes = encodeSigned({ repositoryId: this.id, key }, body, this.#writingKey())
    if (!o.replace) return this.storage.putNew(key, [bytes])
    await this.storage.put(key, [bytes])
    return true
  }

  /** The shape is what the signer wrote under this key; the caller names it. */
  readSigned<T>(key: string): Promise<T> {
    return naming(key, async () => {
      const place = { repositoryId: this.id, key }
      return decodeSigned(await this.storage.get(key), place, this.#signer) as T
    })
  }

  /** Every complete backup, oldest first. Without `onDamaged` markers that are not sound are left out silently. */
  async backups(o: { onDamaged?: (key: string, error: unknown) => void } = {}): Promise<BackupMarker[]> {
    const markers: BackupMarker[] = []
    for (const id of await markedBackups(this.storage)) {
      try {
        markers.push(await this.backup(id))
      } catch (error) {
        const code = codeOf(error)
        if (code === 'BACKUP_OBJECT_DAMAGED') o.onDamaged?.(layout.complete(id), error)
        // Between listing and reading it may have been pruned.
        else if (code !== 'BACKUP_NOT_FOUND' && code !== 'BACKUP_OBJECT_MISSING') throw error
      }
    }
    return markers
  }

  /** @throws BACKUP_NOT_FOUND, BACKUP_OBJECT_DAMAGED */
  async backup(id: string): Promise<BackupMarker> {
    const key = layout.complete(id)
    if (!backupIdPattern.test(id) || !(await this.storage.head(key)))
      throw backupError('BACKUP_NOT_FOUND', { what: id, repository: this.storage.description })
    const marker = await this.readSigned<BackupMarker>(key)
    await naming(key, () => requireSound(marker.id === id, 'it is the marker of another backup'))
    return marker
  }

  /** Whole segments in the order of the log; `after` is a segment name, exclusive. */
  segments(system: string, timeline: number, o: { after?: string } = {}): AsyncIterable<SegmentObject> {
    return segmentsOf(this.storage, { system, timeline, ...o })
  }

  /** Timelines that have a segment or a history, ascending. */
  timelines(system: string): Promise<number[]> {
    return timelinesOf(this.storage, system)
  }

  /**
   * The timeline's history file; undefined when there is none. It stands in the signed header, so that timelines are
   * followed without the keys of the chains in which they ended. @throws BACKUP_KEY_NEEDED for a very long one
   */
  async history(system: string, timeline: number): Promise<Buffer | undefined> {
    const key = layout.history(system, timeline)
    if (!(await this.storage.head(key))) return undefined
    const { text } = (await this.checkSealed(key)).facts as HistoryFacts
    return text === undefined ? (await this.readSealed(key)).bytes : Buffer.from(text)
  }

  /** System identifiers of the clusters whose log is here. */
  systems(): Promise<string[]> {
    return systemsOf(this.storage)
  }

  #writingKey(): KeyObject {
    if (!this.#signingKey) throw backupError('REPOSITORY_READ_ONLY', { repository: this.storage.description })
    return this.#signingKey
  }
}

const backupIdPattern = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code
}
