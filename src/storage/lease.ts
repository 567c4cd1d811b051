import { randomUUID } from 'node:crypto'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { storageError } from './errors.ts'
import {
  decideAcquire,
  decideKeep,
  epochName,
  type KeepDecision,
  type LeaseRecord,
  parseEpoch,
  parseRecord,
  type Sighting,
} from './lease-policy.ts'
import { repeat, within } from './renewal.ts'
import { pause } from './retry.ts'
import type { Storage } from './storage.ts'

export interface LeaseOptions {
  storage: Storage
  /** Such as `locks/backup/`. */
  prefix: string
  /** For people: host, pid, verb. */
  holder: string
  /** For how long a holder that says nothing keeps it. */
  ttlMs: number
  clock: Clock
  log: Log
  /** For how long to wait for another holder; 0. */
  waitMs?: number
  signal?: AbortSignal
}

// A waiter looks often enough to be next, and seldom enough to cost a store little.
const lookEveryMs = { least: 50, most: 2_000 }
// In single-writer mode both of two racers have written by then, so that both read the same winner.
const settleMs = { share: 0.1, most: 2_000 }
// So many past epochs stay, for a holder that wakes up to find that it is not the newest.
const keptEpochs = 2

/**
 * Takes the lease, or says who has it. Epochs are write-once objects with growing numbers: of all that see the last one
 * ended, putNew of the next number lets one win. In single-writer mode, where the store decides nothing, the winner is
 * whose random token is still there after a pause.
 * @throws LEASE_HELD {lease, holder, since, expiresInSeconds}, or what the storage throws
 */
export async function acquireLease(o: LeaseOptions): Promise<Lease> {
  const watch = new Watch(o)
  const giveUpMs = o.clock.monotonicMs() + (o.waitMs ?? 0)
  for (;;) {
    o.signal?.throwIfAborted()
    const decision = decideAcquire({ newest: await watch.look(), now: o.clock.now(), ttlMs: o.ttlMs })
    if (decision.kind === 'take') {
      const lease = await tryEpoch(o, decision.epoch)
      if (lease) return lease
      // Another one was faster: the next look shows who.
      continue
    }
    const leftMs = giveUpMs - o.clock.monotonicMs()
    if (leftMs <= 0) throw held(o.prefix, decision)
    const ms = Math.max(lookEveryMs.least, Math.min(lookEveryMs.most, o.ttlMs / 10))
    await pause(Math.min(leftMs, ms), o.signal)
  }
}

function held(prefix: string, o: { holder: string; since: string; expiresInMs: number }): Failure {
  const expiresInSeconds = Math.ceil(o.expiresInMs / 1000)
  return storageError('LEASE_HELD', { lease: prefix, holder: o.holder, since: o.since, expiresInSeconds })
}

/** Undefined when another one has it. */
async function tryEpoch(o: LeaseOptions, epoch: number): Promise<Lease | undefined> {
  const at = o.clock.now().toISOString()
  const record: LeaseRecord = {
    holder: o.holder,
    token: randomUUID(),
    since: at,
    renewedAt: at,
    ttlMs: o.ttlMs,
  }
  const renewedAtMs = o.clock.monotonicMs()
  const key = `${o.prefix}${epochName(epoch)}`
  if (!(await o.storage.putNew(key, [encode(record)]))) return undefined
  if (!o.storage.conditional && !(await survives(o, key, record.token))) return undefined
  await forgetOldEpochs(o, epoch)
  return new Lease(o, epoch, record, renewedAtMs)
}

async function survives(o: LeaseOptions, key: string, token: string): Promise<boolean> {
  await pause(Math.min(settleMs.most, o.ttlMs * settleMs.share), o.signal)
  return (await readRecord(o.storage, key))?.token === token
}

async function forgetOldEpochs(o: LeaseOptions, newest: number): Promise<void> {
  try {
    const old = (await epochsOf(o.storage, o.prefix)).filter(epoch => epoch < newest - keptEpochs)
    if (old.length > 0) await o.storage.delete(old.map(epoch => `${o.prefix}${epochName(epoch)}`))
  } catch (error) {
    o.log.warn({ lease: o.prefix, err: error }, 'old epochs of a lease stay')
  }
}

/** Looks at the newest epoch and remembers since when it has looked like that. */
class Watch {
  readonly #o: LeaseOptions
  #last = { text: '', sinceMs: 0 }

  constructor(o: LeaseOptions) {
    this.#o = o
  }

  async look(): Promise<Sighting | undefined> {
    const { storage, prefix, clock } = this.#o
    // What is seen is as old as the beginning of the look.
    const nowMs = clock.monotonicMs()
    const epoch = (await epochsOf(storage, prefix)).at(-1)
    if (epoch === undefined) return undefined
    const record = await readRecord(storage, `${prefix}${epochName(epoch)}`)
    const text = JSON.stringify([epoch, record])
    if (text !== this.#last.text) this.#last = { text, sinceMs: clock.monotonicMs() }
    return { epoch, record, unchangedForMs: Math.max(0, nowMs - this.#last.sinceMs) }
  }
}

async function epochsOf(storage: Storage, prefix: string): Promise<number[]> {
  const epochs: number[] = []
  for await (const { key } of storage.list(prefix)) {
    const epoch = parseEpoch(key.slice(prefix.length))
    if (epoch !== undefined) epochs.push(epoch)
  }
  return epochs
}

/** Undefined when it is gone or is no record. */
async function readRecord(storage: Storage, key: string): Promise<LeaseRecord | undefined> {
  try {
    return parseRecord((await storage.get(key)).toString('utf8'))
  } catch (error) {
    if (error instanceof Failure && error.code === 'STORAGE_NOT_FOUND') return undefined
    throw error
  }
}

function encode(record: LeaseRecord): Uint8Array {
  return Buffer.from(JSON.stringify(record))
}

/**
 * The right to write, until released or lost. It is renewed every third of its ttl. Fencing is by `check`: a holder
 * that slept and was passed over finds the newer epoch before it commits anything.
 */
export class Lease {
  readonly name: string
  readonly epoch: number
  readonly #o: LeaseOptions
  readonly #key: string
  readonly #lost = new AbortController()
  readonly #renewals: { stop(): Promise<void> }
  #record: LeaseRecord
  #renewedAtMs: number
  #expiry: NodeJS.Timeout | undefined
  #released: Promise<void> | undefined

  /** For acquireLease only. */
  constructor(o: LeaseOptions, epoch: number, record: LeaseRecord, renewedAtMs: number) {
    this.name = o.prefix
    this.epoch = epoch
    this.#o = o
    this.#key = `${o.prefix}${epochName(epoch)}`
    this.#record = record
    this.#renewedAtMs = renewedAtMs
    this.#renewals = repeat({ everyMs: o.ttlMs / 3, work: () => this.#renew() })
    this.#watchExpiry()
  }

  /** Aborts, with LEASE_LOST as its reason, when renewals have failed for a whole ttl or there is a newer epoch. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /**
   * To be called right before every object that makes work count.
   * @throws LEASE_LOST unless the newest epoch is ours and its time is not over
   */
  async check(): Promise<void> {
    this.#lost.signal.throwIfAborted()
    if (this.#released) throw lostFailure(this.name, 'it was released')
    const newestEpoch = (await epochsOf(this.#o.storage, this.#o.prefix)).at(-1) ?? 0
    // Where the store decides nothing, another one may have written our very epoch.
    const found = this.#o.storage.conditional ? undefined : await readRecord(this.#o.storage, this.#key)
    this.#judge(newestEpoch, this.#o.storage.conditional ? undefined : { found: found?.token })
    this.#lost.signal.throwIfAborted()
  }

  /** Lets the next one in at once. Never fails: without it the lease ends by itself. */
  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<void> {
    clearTimeout(this.#expiry)
    // A renewal on its way would undo the release.
    await this.#renewals.stop()
    if (this.#lost.signal.aborted) return
    try {
      await within(this.#o.ttlMs, signal =>
        this.#o.storage.put(this.#key, [encode({ ...this.#record, released: true })], { signal }),
      )
    } catch (error) {
      this.#o.log.warn({ lease: this.name, err: error }, 'a lease was not released; it ends by itself')
    }
  }

  async #renew(): Promise<void> {
    if (this.#lost.signal.aborted) return
    try {
      const begunMs = this.#o.clock.monotonicMs()
      const record = { ...this.#record, renewedAt: this.#o.clock.now().toISOString() }
      // Short of the whole ttl, so that a request that hangs leaves time for another one.
      await within(this.#o.ttlMs / 2, async signal => {
        const newest = (await epochsOf(this.#o.storage, this.#o.prefix)).at(-1) ?? 0
        this.#judge(newest, undefined)
        if (this.#lost.signal.aborted) return
        signal.throwIfAborted()
        await this.#o.storage.put(this.#key, [encode(record)], { signal })
      })
      this.#record = record
      this.#renewedAtMs = begunMs
      this.#watchExpiry()
    } catch (error) {
      this.#o.log.warn({ lease: this.name, err: error }, 'a lease was not renewed; it is tried again')
    }
  }

  #watchExpiry(): void {
    clearTimeout(this.#expiry)
    if (this.#lost.signal.aborted) return
    const leftMs = this.#renewedAtMs + this.#o.ttlMs - this.#o.clock.monotonicMs()
    this.#expiry = setTimeout(() => this.#judge(undefined, undefined), Math.max(0, leftMs) + 1).unref()
  }

  #judge(newestEpoch: number | undefined, token: { found: string | undefined } | undefined): void {
    const decision = decideKeep({
      epoch: this.epoch,
      ttlMs: this.#o.ttlMs,
      newestEpoch,
      renewedAtMs: this.#renewedAtMs,
      nowMs: this.#o.clock.monotonicMs(),
      ...(token && { token: { ours: this.#record.token, found: token.found } }),
    })
    if (decision.kind === 'held' || this.#lost.signal.aborted) return
    clearTimeout(this.#expiry)
    this.#lost.abort(lostFailure(this.name, lostWords[decision.reason]))
    this.#o.log.warn({ lease: this.name, epoch: this.epoch, reason: decision.reason }, 'a lease was lost')
  }
}

const lostWords: Record<Extract<KeepDecision, { kind: 'lost' }>['reason'], string> = {
  superseded: 'another one took it over',
  expired: 'it could not be renewed in time',
  overwritten: 'another one wrote over it',
}

function lostFailure(lease: string, reason: string): Failure {
  return storageError('LEASE_LOST', { lease, reason })
}
