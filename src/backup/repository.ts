import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import type { Storage } from '#storage/storage.ts'
import type { SealPool } from './envelope/pool.ts'
import type { SealedWriter } from './envelope/writer.ts'
import type { DataKey } from './keys/data-keys.ts'
import type { KeyRing } from './keys/ring.ts'
import type { BackupMarker, ObjectFacts, SealedFacts, SealedHeader, SealedKind } from './model.ts'

export interface CreateOptions {
  storage: Storage
  home: Home
  /** Without it a ring of the home, with no identities. */
  ring?: KeyRing
  log?: Log
}

export interface OpenOptions {
  storage: Storage
  ring: KeyRing
  /** Given when the repository is this home's own: then it can be written. */
  home?: Home
  trustedSigner?: string
  log: Log
}

/** Why the signer of a repository is believed. */
export interface Trust {
  by: 'home' | 'kit' | 'repository'
  /** For people; set when nothing but the repository itself vouches for it. */
  warning?: string
}

export interface SealOptions {
  object: string
  kind: SealedKind
  facts: SealedFacts
  dataKey: DataKey
  compression?: 'zstd' | 'none'
  pool: SealPool
}

export interface SegmentObject {
  segment: string
  key: string
  bytes: number
}

export class Repository {
  readonly id: string
  readonly storage: Storage
  readonly ring: KeyRing
  readonly trust: Trust

  private constructor(o: { id: string; storage: Storage; ring: KeyRing; trust: Trust }) {
    this.id = o.id
    this.storage = o.storage
    this.ring = o.ring
    this.trust = o.trust
  }

  static async create(_o: CreateOptions): Promise<Repository> {
    throw new Error('being built')
  }
  static async open(_o: OpenOptions): Promise<Repository> {
    throw new Error('being built')
  }
  async newDataKey(): Promise<DataKey> {
    throw new Error('being built')
  }
  async dataKey(_id: string): Promise<DataKey> {
    throw new Error('being built')
  }
  seal(_o: SealOptions): SealedWriter {
    throw new Error('being built')
  }
  async writeSealed(_o: {
    object: string
    kind: SealedKind
    facts: SealedFacts
    dataKey: DataKey
    bytes: Uint8Array
    compression?: 'zstd' | 'none'
    pool?: SealPool
  }): Promise<{ created: boolean; bytes: number; sha256: string }> {
    throw new Error('being built')
  }
  async readSealed(
    _object: string,
    _o: { pool?: SealPool; expect?: ObjectFacts } = {},
  ): Promise<{ header: SealedHeader; bytes: Buffer }> {
    throw new Error('being built')
  }
  // biome-ignore lint/correctness/useYield: being built
  async *frames(_object: string, _o: { pool: SealPool; expect?: ObjectFacts }): AsyncGenerator<Buffer> {
    throw new Error('being built')
  }
  async inspect(_object: string): Promise<SealedHeader> {
    throw new Error('being built')
  }
  async checkSealed(_object: string, _expect?: ObjectFacts): Promise<SealedHeader> {
    throw new Error('being built')
  }
  async writeSigned(_key: string, _body: object, _o: { replace?: boolean } = {}): Promise<boolean> {
    throw new Error('being built')
  }
  async readSigned<T>(_key: string): Promise<T> {
    throw new Error('being built')
  }
  async backups(_o: { onDamaged?: (key: string, error: unknown) => void } = {}): Promise<BackupMarker[]> {
    throw new Error('being built')
  }
  async backup(_id: string): Promise<BackupMarker> {
    throw new Error('being built')
  }
  // biome-ignore lint/correctness/useYield: being built
  async *segments(
    _system: string,
    _timeline: number,
    _o: { after?: string } = {},
  ): AsyncGenerator<SegmentObject> {
    throw new Error('being built')
  }
  async timelines(_system: string): Promise<number[]> {
    throw new Error('being built')
  }
  async history(_system: string, _timeline: number): Promise<Buffer | undefined> {
    throw new Error('being built')
  }
  async systems(): Promise<string[]> {
    throw new Error('being built')
  }
  recipients(): string[] {
    throw new Error('being built')
  }
}
