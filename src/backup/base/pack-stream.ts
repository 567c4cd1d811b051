import assert from 'node:assert/strict'
import { release } from '../envelope/frame.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { SealedFrameReceipt, SealedObject, SealedWriter } from '../envelope/writer.ts'
import type { DataKey } from '../keys/data-keys.ts'
import { layout } from '../layout.ts'
import type { ArchiveFacts, ObjectFacts } from '../model.ts'
import type { Repository } from '../repository.ts'
import { baseBackupError } from './errors.ts'
import { FileIndex, type FrameRuns } from './file-index.ts'

export interface PackStreamOptions {
  repository: Repository
  pool: SealPool
  dataKey: DataKey
  backupId: string
  signal: AbortSignal
}

interface Pack {
  object: string
  writer: SealedWriter
  rawBytes: number
}

// Long enough that zstd and AES run at full speed; a few of them are all that is copied.
const frameBytes = 1024 * 1024
// Few enough requests for a store that counts them, and the ones under way fit into memory.
const packStoredBytes = 8 * 1024 * 1024
// What compresses to nothing must still fit into the memory of whoever opens it.
const packRawBytes = 256 * 1024 * 1024
// Enough to hide the latency of a store far away; more would only hold memory.
const uploadsAtOnce = 2

/**
 * Takes the raw archives of a base backup and stores them as packs. Bytes are copied once, into frames that worker
 * threads compress, encrypt and sum; when all frames are at work or enough uploads are under way, write() makes its caller
 * wait. Memory: the frames and a handful of packs, however large the database is.
 */
export class PackStream {
  readonly index = new FileIndex()
  readonly archives: ArchiveFacts[] = []
  readonly objects: ObjectFacts[] = []
  rawBytes = 0
  storedBytes = 0
  readonly #o: PackStreamOptions
  readonly #frames: FrameBuffers
  readonly #uploads = new Set<Promise<void>>()
  #pack: Pack | undefined
  #buffer: Uint8Array | undefined
  #filled = 0
  /** Settles when the sums of every frame so far are in the index. */
  #summed: Promise<unknown> = Promise.resolve()
  #fault: { error: unknown } | undefined

  constructor(options: PackStreamOptions) {
    this.#o = options
    // For each thread one at work and one beside it, one that is being filled and one on its way back.
    this.#frames = new FrameBuffers(options.pool.threads * 2 + 2)
  }

  /** Ends the archive before it. */
  async begin(name: string, path?: string): Promise<void> {
    await this.#endArchive()
    this.archives.push({ name, ...(path ? { path } : {}), rawBytes: 0, packs: [] })
    this.index.begin(name)
  }

  write(bytes: Buffer): void | Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      this.#buffer ??= this.#frames.take()
      if (!this.#buffer) return this.#writeLater(bytes.subarray(at))
      const taken = Math.min(frameBytes - this.#filled, bytes.length - at)
      this.#buffer.set(bytes.subarray(at, at + taken), this.#filled)
      this.#filled += taken
      at += taken
      if (this.#filled < frameBytes) continue
      const waits = this.#send()
      if (waits) return waits.then(() => this.write(bytes.subarray(at)))
    }
  }

  /** Everything is stored and summed. */
  async end(): Promise<void> {
    await this.#endArchive()
    await Promise.all(this.#uploads)
    await this.#summed
    this.#check()
  }

  /** Resolves when nothing is being stored any more, however it ended. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#uploads)
  }

  async #writeLater(rest: Buffer): Promise<void> {
    this.#check()
    await this.#frames.returned()
    this.#check()
    await this.write(rest)
  }

  async #endArchive(): Promise<void> {
    if (this.archives.length === 0) return
    if (this.#filled > 0) await this.#send()
    await this.#endPack()
    this.index.end()
  }

  /** Hands the frame to the threads. A promise when the pack is full and has to wait for its upload. */
  #send(): Promise<void> | undefined {
    this.#check()
    const { buffer } = this.#buffer as Uint8Array
    const length = this.#filled
    this.#buffer = undefined
    this.#filled = 0
    const runs = this.index.frame(Buffer.from(buffer, 0, length))
    this.#pack ??= this.#beginPack()
    const pack = this.#pack
    const receipt = pack.writer.frame(buffer as ArrayBuffer, length, runs.lengths)
    this.#follow(receipt, runs)
    pack.rawBytes += length
    this.rawBytes += length
    const archive = this.archives.at(-1) as ArchiveFacts
    archive.rawBytes += length
    const isFull = pack.writer.storedBytes >= packStoredBytes || pack.rawBytes >= packRawBytes
    return isFull ? this.#endPack() : undefined
  }

  #follow(receipt: Promise<SealedFrameReceipt>, runs: FrameRuns): void {
    this.#summed = Promise.all([receipt, this.#summed])
      .then(([{ crcs }]) => this.index.sums(runs, crcs))
      .catch(error => this.#fail(error))
    receipt.then(
      ({ raw }) => this.#frames.giveBack(raw),
      error => this.#fail(error),
    )
  }

  #beginPack(): Pack {
    const { repository, pool, dataKey, backupId } = this.#o
    const archive = this.archives.at(-1) as ArchiveFacts
    const object = layout.pack(backupId, archive.name, archive.packs.length)
    archive.packs.push(object)
    const facts = { backupId, archive: archive.name, offset: archive.rawBytes }
    return { object, writer: repository.seal({ object, kind: 'pack', facts, dataKey, pool }), rawBytes: 0 }
  }

  /** Waits until one more upload may begin, not until it ends. */
  async #endPack(): Promise<void> {
    const pack = this.#pack
    if (!pack) return
    this.#pack = undefined
    while (this.#uploads.size >= uploadsAtOnce) await Promise.race(this.#uploads)
    this.#check()
    const upload: Promise<void> = this.#upload(pack.object, pack.writer)
      .catch(error => this.#fail(error))
      .finally(() => this.#uploads.delete(upload))
    this.#uploads.add(upload)
  }

  async #upload(object: string, writer: SealedWriter): Promise<void> {
    const sealed = await writer.finish()
    this.#o.signal.throwIfAborted()
    const facts = await storeNew(this.#o.repository, object, sealed, this.#o.signal)
    // Two packs of garbage would be more than all that is in use.
    for (const part of sealed.parts) release(part)
    this.objects.push(facts)
    this.storedBytes += facts.bytes
  }

  #fail(error: unknown): void {
    this.#fault ??= { error }
    this.#frames.wake()
  }

  #check(): void {
    if (this.#fault) throw this.#fault.error
  }
}

/** Stores what a writer has sealed. @throws BACKUP_EXISTS when something else lies there */
async function storeNew(
  repository: Repository,
  object: string,
  sealed: SealedObject,
  signal?: AbortSignal,
): Promise<ObjectFacts> {
  const facts = { key: object, bytes: sealed.bytes, sha256: sealed.sha256 }
  if (await repository.storage.putNew(object, sealed.parts, signal ? { signal } : {})) return facts
  // A store whose answer was lost has taken the first attempt; then it is ours.
  const isOurs = await repository.checkSealed(object, facts).then(
    () => true,
    () => false,
  )
  if (!isOurs) throw baseBackupError('BACKUP_EXISTS', { object })
  return facts
}

/** A few buffers that are used again and again. */
class FrameBuffers {
  readonly #free: ArrayBuffer[] = []
  #unmade: number
  #waiting: (() => void) | undefined

  constructor(most: number) {
    this.#unmade = most
  }

  take(): Uint8Array | undefined {
    const free = this.#free.pop() ?? this.#make()
    return free && new Uint8Array(free)
  }

  giveBack(buffer: ArrayBuffer): void {
    this.#free.push(buffer)
    this.wake()
  }

  /** One caller at a time. */
  returned(): Promise<void> {
    assert(!this.#waiting, 'one archive is written at a time')
    if (this.#free.length > 0) return Promise.resolve()
    return new Promise(resolve => {
      this.#waiting = resolve
    })
  }

  wake(): void {
    this.#waiting?.()
    this.#waiting = undefined
  }

  #make(): ArrayBuffer | undefined {
    if (this.#unmade === 0) return undefined
    this.#unmade--
    return new ArrayBuffer(frameBytes)
  }
}
