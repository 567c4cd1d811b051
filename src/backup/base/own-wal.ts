import { formatLsn, historyName, type Lsn, segmentName, segmentStart } from '#lib/lsn.ts'
import type { ReplicationConnection, WalStream } from '#postgres/wire/connection.ts'
import { historyFacts } from '../archive/history.ts'
import type { SealPool } from '../envelope/pool.ts'
import type { DataKey } from '../keys/data-keys.ts'
import { layout } from '../layout.ts'
import type { Repository } from '../repository.ts'
import { baseBackupError } from './errors.ts'

export interface OwnWalOptions {
  /** A connection for this alone. */
  connection: ReplicationConnection
  repository: Repository
  pool: SealPool
  dataKey: DataKey
  systemIdentifier: string
  segmentBytes: number
  /** Without it made up; at most 63 characters of [a-z0-9_]. */
  slot: string
  /** For how long no WAL may come before it is given up. */
  silentMs?: number
}

// The end of a backup switches the segment, so all of it is there at once; the rest is the network's.
const usualSilentMs = 60_000

/**
 * The WAL that a backup needs, for a database whose WAL nobody archives: a temporary slot keeps it from the beginning, and
 * in the end the segments go where an archive would have put them.
 */
export class OwnWal {
  readonly #o: OwnWalOptions

  private constructor(options: OwnWalOptions) {
    this.#o = options
  }

  /** To be called before the backup begins. The slot goes with the connection. */
  static async keep(options: OwnWalOptions): Promise<OwnWal> {
    await options.connection.createSlot(options.slot, { reserveWal: true, temporary: true })
    return new OwnWal(options)
  }

  /** Stores every segment from the one of `start` to the one that holds the last byte before `stop`. @throws BACKUP_WAL_LATE */
  async store(need: { timeline: number; start: Lsn; stop: Lsn }): Promise<void> {
    const { connection, slot, segmentBytes, silentMs = usualSilentMs } = this.#o
    await this.#storeHistory(need.timeline)
    const start = segmentStart(need.start, segmentBytes)
    const until = segmentStart(need.stop - 1n, segmentBytes) + BigInt(segmentBytes)
    const segments = new Segments(start, segmentBytes, (at, bytes) => this.#put(need.timeline, at, bytes))
    const timer = new Silence(silentMs)
    const data = async (at: Lsn, bytes: Buffer) => {
      timer.heard()
      await segments.write(at, bytes, until)
      if (segments.end >= until) timer.done()
    }
    const sink = { data, keepalive: () => {}, turn: () => {} }
    const stream = await connection.streamWal({ slot, start, timeline: need.timeline }, sink)
    try {
      const ended = await Promise.race([timer.over, endOf(stream)])
      if (segments.end >= until) return
      const lsn = formatLsn(need.stop)
      throw baseBackupError('BACKUP_WAL_LATE', { lsn, waitedSeconds: silentMs / 1000, ended })
    } finally {
      timer.stop()
      await stream.stop()
    }
  }

  async #put(timeline: number, start: Lsn, bytes: Buffer): Promise<void> {
    const { repository, pool, dataKey, systemIdentifier, segmentBytes } = this.#o
    const segment = segmentName(timeline, start, segmentBytes)
    const facts = { systemIdentifier, timeline, segment, segmentBytes }
    const range = { start: formatLsn(start), end: formatLsn(start + BigInt(segmentBytes)) }
    // What an earlier backup or an archive has stored there holds the same.
    await repository.writeSealed({
      object: layout.segment(systemIdentifier, segment),
      kind: 'wal',
      facts: { ...facts, ...range },
      dataKey,
      bytes,
      pool,
    })
  }

  async #storeHistory(timeline: number): Promise<void> {
    const { connection, repository, dataKey, systemIdentifier } = this.#o
    const object = layout.history(systemIdentifier, timeline)
    if (timeline === 1 || (await repository.storage.head(object))) return
    const { content: bytes, fileName } = await connection.timelineHistory(timeline)
    if (fileName !== historyName(timeline))
      throw new Error(`${fileName} is no history of timeline ${timeline}`)
    const facts = historyFacts(systemIdentifier, timeline, bytes)
    await repository.writeSealed({ object, kind: 'history', facts, dataKey, bytes })
  }
}

async function endOf(stream: WalStream): Promise<'ended'> {
  await stream.ended
  return 'ended'
}

/** Cuts the stream into whole segments; one is in memory. */
class Segments {
  end: Lsn
  readonly #bytes: Buffer
  readonly #put: (start: Lsn, bytes: Buffer) => Promise<void>
  #filled = 0

  constructor(start: Lsn, segmentBytes: number, put: (start: Lsn, bytes: Buffer) => Promise<void>) {
    this.end = start
    this.#bytes = Buffer.alloc(segmentBytes)
    this.#put = put
  }

  /** `end` moves when a segment is stored. */
  async write(at: Lsn, bytes: Buffer, until: Lsn): Promise<void> {
    if (at !== this.end + BigInt(this.#filled)) throw new Error(`WAL came at ${formatLsn(at)}, out of order`)
    for (let from = 0; from < bytes.length && this.end < until; ) {
      const taken = bytes.copy(this.#bytes, this.#filled, from)
      from += taken
      this.#filled += taken
      if (this.#filled < this.#bytes.length) continue
      await this.#put(this.end, this.#bytes)
      this.end += BigInt(this.#bytes.length)
      this.#filled = 0
    }
  }
}

/** Resolves when nobody was heard for so long, or when it is done. */
class Silence {
  readonly over: Promise<'silent' | 'done'>
  readonly #resolve: (how: 'silent' | 'done') => void
  readonly #timer: NodeJS.Timeout

  constructor(silentMs: number) {
    const { promise, resolve } = Promise.withResolvers<'silent' | 'done'>()
    this.over = promise
    this.#resolve = resolve
    this.#timer = setTimeout(() => resolve('silent'), silentMs)
  }

  heard(): void {
    this.#timer.refresh()
  }

  done(): void {
    this.#resolve('done')
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}
