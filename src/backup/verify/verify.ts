import { randomBytes } from 'node:crypto'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { parseLsn } from '#lib/lsn.ts'
import type { SealPool } from '../envelope/pool.ts'
import { layout } from '../layout.ts'
import {
  type BackupMarker,
  formatVersion,
  type ObjectFacts,
  type RemovalReport,
  type SealedHeader,
  type VerifyFault,
  type VerifyReport,
} from '../model.ts'
import { type CheckFound, latestReport, readChecks, readReports } from '../reports.ts'
import type { Repository } from '../repository.ts'
import { changedSince, takeInventory } from './inventory.ts'
import { isUntouched, segmentBefore } from './needs.ts'
import { checkReach, type Logs, shorterThan } from './reach.ts'
import { listLog, type StoredLogObjects } from './stored-log.ts'
import { type IsDue, turnsOf } from './turns.ts'
import { wrongWal } from './wal-content.ts'

export interface VerifyOptions {
  repository: Repository
  /** Only this backup and the log that it needs; the whole repository without it. */
  id?: string
  /** Decrypts everything with this pool; without it only what needs no key is checked. */
  pool?: SealPool
  /** Every object is read once in so many days, the ones that were never read always; 1 reads all. */
  everyDays?: number
  /** What this home knows of: the report it wrote last and the log that its archive has stored. */
  known?: { lastReport?: string; walThrough?: VerifyReport['walThrough'] }
  clock: Clock
  signal?: AbortSignal
  onProgress?: (progress: VerifyProgress) => void
}

export interface VerifyProgress {
  phase: 'listing' | 'reading' | 'continuity'
  objects: number
  objectsTotal: number
  readBytes: number
}

// Enough to hide the latency of a store, little enough for memory: objects are up to 64 MiB.
const atOnce = 3

/**
 * Reads the repository again and tells every object that is not as it was written. Sealed: hashes, signatures, places,
 * and the continuity of the log from every backup; that needs no key. Opened: everything is decrypted too, and the pages
 * of the log say that they are of this place.
 * A report is returned, not thrown, however bad it is. @throws BACKUP_KEY_NEEDED when it is to be
 * opened and there is no recovery key; what the storage throws when it does not answer.
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  return new Verification(options).run()
}

class Verification {
  readonly #o: VerifyOptions
  readonly #startedAt: Date
  readonly #startedMs: number
  readonly #faults = new Map<string, VerifyFault>()
  /** Data keys that objects name: each must be in the repository. */
  readonly #dataKeys = new Map<string, string>()
  readonly #walThrough: VerifyReport['walThrough'] = []
  readonly #progress: VerifyProgress = { phase: 'listing', objects: 0, objectsTotal: 0, readBytes: 0 }

  constructor(options: VerifyOptions) {
    this.#o = options
    this.#startedAt = options.clock.now()
    this.#startedMs = options.clock.monotonicMs()
  }

  async run(): Promise<VerifyReport> {
    const { repository, id, everyDays = 1 } = this.#o
    const reports = id === undefined ? await readChecks(repository, this.#blame) : []
    const markers = await this.#markers()
    const readBefore = reports.flatMap(report => report.wholeBackups)
    const due = turnsOf({ everyDays, now: this.#startedAt, markers, readBefore })
    const logs = await this.#logs(markers)
    const whole = await this.#readBackups(markers, due)
    await this.#readLogs(logs, markers, due)
    this.#checkReach(markers, logs)
    await this.#checkDataKeys()
    const inventory = id === undefined ? await this.#inventory(reports, logs) : []
    return this.#report(
      whole.filter(one => isUntouched(one, this.#faults.keys())),
      inventory,
    )
  }

  /** Takes down a fault; the first thing said of an object stays. */
  readonly #blame = (object: string, error: unknown): void => {
    if (!(error instanceof Failure)) throw error
    if (error.row.retry) throw error
    // Whoever has no recovery key learns nothing about the object, least of all that it is damaged.
    const { identities } = this.#o.repository.ring
    if (error.code === 'BACKUP_KEY_NEEDED' && identities.length === 0) throw error
    const missing = ['BACKUP_OBJECT_MISSING', 'STORAGE_NOT_FOUND'].includes(error.code)
    const reason = String(error.facts.reason ?? error.message)
    this.#fault({
      object,
      problem: missing ? 'missing' : 'damaged',
      reason: missing ? 'it is not there' : reason,
    })
  }

  #fault(fault: VerifyFault): void {
    if (!this.#faults.has(fault.object)) this.#faults.set(fault.object, fault)
  }

  async #markers(): Promise<BackupMarker[]> {
    const { repository, id } = this.#o
    if (id !== undefined) return [await repository.backup(id)]
    return repository.backups({ onDamaged: this.#blame })
  }

  async #readBackups(markers: readonly BackupMarker[], due: IsDue): Promise<BackupMarker[]> {
    const work = markers.flatMap(marker =>
      marker.objects.filter(object => due(marker.id, object.key)).map(object => ({ marker, object })),
    )
    const skipped = new Set(
      markers.filter(marker => marker.objects.some(object => !due(marker.id, object.key))).map(one => one.id),
    )
    this.#progress.phase = 'reading'
    this.#progress.objectsTotal += work.length
    for (const marker of markers)
      for (const key of marker.dataKeys) this.#dataKeys.set(key, layout.complete(marker.id))
    await this.#each(work, ({ object }) => this.#readObject(object.key, object))
    // What is not read this time still has to be there.
    for (const marker of markers.filter(one => skipped.has(one.id))) await this.#checkPresence(marker)
    return markers.filter(marker => !skipped.has(marker.id))
  }

  async #checkPresence(marker: BackupMarker): Promise<void> {
    const { storage } = this.#o.repository
    const present = new Map<string, number>()
    for await (const { key, bytes } of storage.list(layout.backup(marker.id))) present.set(key, bytes)
    for (const { key, bytes } of marker.objects) {
      const found = present.get(key)
      if (found === undefined) this.#fault({ object: key, problem: 'missing', reason: 'it is not there' })
      else if (found !== bytes)
        this.#fault({ object: key, problem: 'damaged', reason: `it has ${found} bytes, not ${bytes}` })
    }
  }

  async #logs(markers: readonly BackupMarker[]): Promise<Map<string, StoredLogObjects>> {
    const { repository } = this.#o
    const sizes = new Map<string, number>()
    for (const { database } of markers)
      if (database) sizes.set(database.systemIdentifier, database.segmentBytes)
    // WAL without a backup is read too: its names tell nothing of its size of segments, so take the usual one.
    if (this.#o.id === undefined)
      for (const system of await repository.systems())
        if (!sizes.has(system)) sizes.set(system, 16 * 1024 * 1024)
    const logs = new Map<string, StoredLogObjects>()
    for (const [system, size] of sizes) logs.set(system, await listLog(repository, system, size, this.#blame))
    return logs
  }

  async #readLogs(
    logs: ReadonlyMap<string, StoredLogObjects>,
    markers: readonly BackupMarker[],
    due: IsDue,
  ): Promise<void> {
    const only = this.#o.id === undefined ? undefined : markers[0]?.database
    const from = only ? parseLsn(only.start) : undefined
    for (const log of logs.values()) {
      const wanted = log.keys.filter(({ key, kind }) => {
        if (kind !== 'segment') return true
        if (from !== undefined && segmentBefore(key, from, log.segmentBytes)) return false
        return due(undefined, key)
      })
      this.#progress.objectsTotal += wanted.length
      await this.#each(wanted, ({ key, kind }) => this.#readObject(key, undefined, kind === 'tail'))
    }
  }

  async #readObject(key: string, expect?: ObjectFacts, mayVanish = false): Promise<void> {
    const { repository, pool } = this.#o
    try {
      const header = await this.#readSealed(key, expect)
      this.#dataKeys.set(header.dataKey, key)
      if (pool) await repository.dataKey(header.dataKey)
    } catch (error) {
      // A piece of the open segment goes when the whole segment has come.
      if (mayVanish && error instanceof Failure && error.code === 'BACKUP_OBJECT_MISSING') return
      this.#blame(key, error)
    }
    this.#progress.objects++
    this.#o.onProgress?.({ ...this.#progress })
  }

  async #readSealed(key: string, expect: ObjectFacts | undefined): Promise<SealedHeader> {
    const { repository, pool } = this.#o
    const header = await repository.checkSealed(key, expect)
    this.#progress.readBytes += expect?.bytes ?? (await repository.storage.head(key))?.bytes ?? 0
    if (!pool) return header
    const { bytes } = await repository.readSealed(key, { pool, ...(expect ? { expect } : {}) })
    const reason = wrongWal(header, bytes)
    if (reason !== undefined) this.#fault({ object: key, problem: 'damaged', reason })
    return header
  }

  #checkReach(markers: readonly BackupMarker[], logs: Logs): void {
    this.#progress.phase = 'continuity'
    const { walThrough, faults } = checkReach(markers, logs)
    for (const fault of faults) this.#fault(fault)
    this.#walThrough.push(...walThrough)
    this.#compareReach(this.#o.known?.walThrough ?? [], logs, 'the archive of this home stored the log')
  }

  #compareReach(earlier: VerifyReport['walThrough'], logs: Logs, who: string): void {
    for (const fault of shorterThan({ earlier, now: this.#walThrough, logs, who })) this.#fault(fault)
  }

  async #checkDataKeys(): Promise<void> {
    const { repository } = this.#o
    for (const [id, user] of this.#dataKeys) {
      let found = 0
      for await (const { key } of repository.storage.list(`${layout.dataKeys}${id}/`)) {
        found++
        const bytes = await this.#readSmall(key)
        if (bytes && !bytes.subarray(0, 21).equals(ageHeader))
          this.#fault({ object: key, problem: 'damaged', reason: 'it is not an age file' })
      }
      if (found === 0)
        this.#fault({
          object: `${layout.dataKeys}${id}/`,
          problem: 'missing',
          reason: `${user} needs this data key`,
        })
    }
  }

  async #inventory(reports: readonly CheckFound[], logs: Logs): Promise<VerifyReport['inventory']> {
    const { repository, known } = this.#o
    const inventory = await takeInventory(repository, key => this.#readSigned(key))
    const removals = await readReports<RemovalReport>(repository, 'removal', this.#blame)
    const isThere = (key: string) =>
      inventory.some(([one]) => one === key) || removals.some(({ objects }) => objects.includes(key))
    if (known?.lastReport !== undefined && !isThere(known.lastReport))
      this.#fault({ object: known.lastReport, problem: 'missing', reason: 'this home wrote it' })
    const last = latestReport(reports.filter(one => one.hasInventory))
    if (last) {
      const report = await repository.readSigned<VerifyReport>(layout.report('verify', last.id))
      const since = removals.filter(one => one.at >= last.finishedAt)
      for (const fault of changedSince(report, inventory, since)) this.#fault(fault)
      this.#compareReach(last.walThrough, logs, `the check of ${last.finishedAt} saw the log`)
    }
    return inventory
  }

  /** Reads a small object; the signed ones must carry their signature. */
  async #readSigned(key: string): Promise<Buffer | undefined> {
    const bytes = await this.#readSmall(key)
    const signed = [layout.points, layout.pins, layout.allReports, layout.repository].some(one =>
      key.startsWith(one),
    )
    if (bytes && signed) await this.#o.repository.readSigned(key).catch(error => this.#blame(key, error))
    return bytes
  }

  async #readSmall(key: string): Promise<Buffer | undefined> {
    try {
      const bytes = await this.#o.repository.storage.get(key)
      this.#progress.readBytes += bytes.length
      return bytes
    } catch (error) {
      this.#blame(key, error)
      return undefined
    }
  }

  async #each<T>(work: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
    const queue = work.values()
    const worker = async () => {
      for (const item of queue) {
        this.#o.signal?.throwIfAborted()
        await act(item)
      }
    }
    await Promise.all(Array.from({ length: atOnce }, worker))
  }

  #report(whole: readonly BackupMarker[], inventory: VerifyReport['inventory']): VerifyReport {
    const { clock, pool, repository } = this.#o
    const finishedAt = clock.now().toISOString()
    const seconds = Math.max(0.001, (clock.monotonicMs() - this.#startedMs) / 1000)
    const { objects, readBytes } = this.#progress
    return {
      format: formatVersion,
      repositoryId: repository.id,
      kind: 'verify',
      id: `${this.#startedAt.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '')}-${randomBytes(3).toString('hex')}`,
      startedAt: this.#startedAt.toISOString(),
      finishedAt,
      ok: this.#faults.size === 0,
      mode: pool ? 'opened' : 'sealed',
      wholeBackups: whole.map(marker => marker.id),
      walThrough: this.#walThrough,
      faults: [...this.#faults.values()],
      objects,
      readBytes,
      megabytesPerSecond: Math.round(readBytes / 10_000 / seconds) / 100,
      inventory,
    }
  }
}

const ageHeader = Buffer.from('age-encryption.org/v1')
