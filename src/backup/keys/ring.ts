import type { Home } from '#lib/home.ts'
import type { Storage } from '#storage/storage.ts'
import type { DataKey } from './data-keys.ts'

export class KeyRing {
  readonly #o: { home?: Home; identities?: readonly string[] }
  constructor(o: { home?: Home; identities?: readonly string[] }) {
    this.#o = o
  }
  get identities(): readonly string[] {
    return this.#o.identities ?? []
  }
  /** Ids of the data keys that are here. */
  remembered(): readonly string[] {
    throw new Error('being built')
  }
  get(_id: string): DataKey | undefined {
    throw new Error('being built')
  }
  /** Durable when it returns, if there is a home. */
  remember(_key: DataKey): void {
    throw new Error('being built')
  }
  /** Forgets all other keys, durably. */
  keepOnly(_ids: readonly string[]): void {
    throw new Error('being built')
  }
}

export interface IdentitySources {
  home?: Home
  identityFile?: string
  passphrase?: string
  storage?: Storage
}

/** Who may sign, learnt from something that only the owner of the recovery key can have written. */
export interface Recovery {
  identities: string[]
  trustedSigner?: string
  repositoryId?: string
}

export async function recoveryFrom(_o: IdentitySources): Promise<Recovery> {
  throw new Error('being built')
}

export async function identitiesFrom(o: IdentitySources): Promise<string[]> {
  return (await recoveryFrom(o)).identities
}
