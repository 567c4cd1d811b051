import type { Storage } from '#storage/storage.ts'
import { requireSound } from '../envelope/damage.ts'
import { backupError } from '../errors.ts'
import { decryptWith, encryptFor } from '../keys/age-files.ts'
import { fingerprintOf, recipientOf } from '../keys/age-keys.ts'
import { type DataKey, dataKeyBytes, dataKeyOf, isDataKeyId, newRandomDataKey } from '../keys/data-keys.ts'
import type { KeyRing } from '../keys/ring.ts'
import { layout } from '../layout.ts'
import { naming } from './damage.ts'

// Keys that were opened with an identity stay for this process only; a restore needs a handful.
const mostOpened = 256

/** Data keys of a repository: made for its recipients, found in the ring or opened with an identity. */
export class DataKeys {
  readonly #storage: Storage
  readonly #ring: KeyRing
  readonly #opened = new Map<string, Promise<DataKey>>()

  constructor(o: { storage: Storage; ring: KeyRing }) {
    this.#storage = o.storage
    this.#ring = o.ring
  }

  /** Stored for every recipient before anything is encrypted with it. @throws BACKUP_NOT_SET_UP */
  async create(recipients: readonly string[]): Promise<DataKey> {
    if (recipients.length === 0) throw backupError('BACKUP_NOT_SET_UP')
    const key = newRandomDataKey()
    for (const recipient of recipients) {
      const object = layout.dataKey(key.id, fingerprintOf(recipient))
      await this.#storage.putNew(object, [await encryptFor(recipient, key.bytes)])
    }
    this.#ring.remember(key)
    return key
  }

  /** @throws BACKUP_KEY_NEEDED naming `object`, BACKUP_OBJECT_DAMAGED naming the key's file */
  async get(id: string, object: string): Promise<DataKey> {
    const known = this.#ring.get(id)
    if (known) return known
    let opening = this.#opened.get(id)
    if (!opening) {
      if (this.#opened.size >= mostOpened) this.#opened.clear()
      opening = this.#open(id, object)
      this.#opened.set(id, opening)
      // A key that was not there may be there the next time, with another identity or another network.
      opening.catch(() => this.#opened.delete(id))
    }
    return opening
  }

  async #open(id: string, object: string): Promise<DataKey> {
    if (!isDataKeyId(id)) throw backupError('BACKUP_KEY_NEEDED', { object })
    for (const identity of this.#ring.identities) {
      const file = layout.dataKey(id, fingerprintOf(recipientOf(identity) ?? ''))
      if (await this.#storage.head(file)) return this.#unwrap(id, file, identity)
    }
    throw backupError('BACKUP_KEY_NEEDED', { object })
  }

  #unwrap(id: string, file: string, identity: string): Promise<DataKey> {
    return naming(file, async () => {
      const bytes = await decryptWith(identity, await this.#storage.get(file))
      requireSound(bytes, 'the identity it is made for does not open it')
      requireSound(bytes.length === dataKeyBytes, 'it does not hold a data key')
      const key = dataKeyOf(bytes)
      requireSound(key.id === id, 'it holds another data key than its name says')
      return key
    })
  }
}
