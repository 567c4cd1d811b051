import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { isLive, type LeaseRecord, parseRecord } from './lease-policy.ts'
import { repeat, within } from './renewal.ts'
import type { Storage } from './storage.ts'

export interface ReaderOptions {
  storage: Storage
  /** Such as `readers/<id>`, one per reader. */
  key: string
  /** For people: host, pid, verb. */
  holder: string
  /** For how long a reader that says nothing counts as there. */
  ttlMs: number
  clock: Clock
  log: Log
}

export interface Reader {
  /** Says that the reading has ended. Never fails: without it the word ends by itself. */
  close(): Promise<void>
}

/**
 * Says in the repository that somebody reads, and renews that, so that nothing is pruned away below the reader. A store
 * that may not be written is read all the same, with a warning.
 */
export async function announceReader(o: ReaderOptions): Promise<Reader> {
  const since = o.clock.now().toISOString()
  const announce = (signal?: AbortSignal) => {
    const renewedAt = o.clock.now().toISOString()
    const record: LeaseRecord = { holder: o.holder, token: o.key, since, renewedAt, ttlMs: o.ttlMs }
    return o.storage.put(o.key, [Buffer.from(JSON.stringify(record))], signal ? { signal } : {})
  }
  try {
    await announce()
  } catch (error) {
    if (!(error instanceof Failure) || !['STORAGE_REFUSED', 'STORAGE_FULL'].includes(error.code)) throw error
    o.log.warn({ reader: o.key, err: error }, 'reading unannounced: a prune may remove what is being read')
    return { close: async () => {} }
  }
  const renewals = repeat({
    everyMs: o.ttlMs / 3,
    work: () =>
      within(o.ttlMs / 2, announce).catch(error =>
        o.log.warn({ reader: o.key, err: error }, 'a reader was not renewed; it is tried again'),
      ),
  })
  return {
    close: async () => {
      await renewals.stop()
      await o.storage
        .delete([o.key])
        .catch(error => o.log.warn({ reader: o.key, err: error }, 'a reader stays until its time is over'))
    },
  }
}

export interface LiveReader {
  key: string
  holder: string
  /** RFC 3339. */
  since: string
}

/** Readers that have said something within their time. One that cannot be understood counts as there. */
export async function liveReaders(storage: Storage, prefix: string, clock: Clock): Promise<LiveReader[]> {
  const live: LiveReader[] = []
  for await (const { key } of storage.list(prefix)) {
    const text = await storage.get(key).catch(gone)
    if (!text) continue
    const record = parseRecord(text.toString('utf8'))
    if (!record) live.push({ key, holder: 'somebody', since: 'some time' })
    else if (isLive(record, clock.now())) live.push({ key, holder: record.holder, since: record.since })
  }
  return live
}

function gone(error: unknown): undefined {
  if (!(error instanceof Failure && error.code === 'STORAGE_NOT_FOUND')) throw error
}
