import { storageError } from '#storage/errors.ts'
import type { Storage } from '#storage/storage.ts'

export type Operation = 'put' | 'putNew' | 'get' | 'head' | 'list' | 'delete'

export interface StorageCall {
  operation: Operation
  /** The first one for delete, the prefix for list. */
  key: string
  /** 1 for the first call of all. */
  number: number
}

/**
 * What befalls one call:
 *   error     nothing is done; STORAGE_UNAVAILABLE, or the given code
 *   lost      it is done, and the call fails all the same
 *   stall     nothing happens until release(), then it goes on; a signal still ends it
 *   truncate  get gives, and put stores, only the first bytes, and nobody is told
 *   flip      get gives, and put stores, one wrong bit in the middle
 */
export type StorageMishap =
  | { kind: 'error'; code?: 'STORAGE_UNAVAILABLE' | 'STORAGE_FULL' | 'STORAGE_TIMEOUT' | 'STORAGE_REFUSED' }
  | { kind: 'lost' }
  | { kind: 'stall' }
  | { kind: 'truncate'; bytes: number }
  | { kind: 'flip' }

export type FaultPlan = (call: StorageCall) => StorageMishap | undefined

export interface FaultyStorage extends Storage {
  /** May be replaced at any time. */
  plan: FaultPlan
  readonly calls: readonly StorageCall[]
  /** How many calls stand still. */
  readonly stalled: number
  /** Lets all that stand still go on. */
  release(): void
}

/** The first `count` calls pass, all others meet the mishap. */
export function failAfter(count: number, mishap: StorageMishap = { kind: 'error' }): FaultPlan {
  return call => (call.number > count ? mishap : undefined)
}

/** The next `times` calls (all) of the operation, or of any one, on keys that match. */
export function failOn(o: {
  operation?: Operation
  key?: RegExp
  times?: number
  mishap?: StorageMishap
}): FaultPlan {
  let left = o.times ?? Number.POSITIVE_INFINITY
  return ({ operation, key }) => {
    if (left <= 0 || (o.operation && o.operation !== operation) || (o.key && !o.key.test(key)))
      return undefined
    left--
    return o.mishap ?? { kind: 'error' }
  }
}

/** Stands between a storage and its user, in the same process. */
export function faulty(storage: Storage, plan: FaultPlan = () => undefined): FaultyStorage {
  const calls: StorageCall[] = []
  const waiting = new Set<() => void>()
  const meet = async (operation: Operation, key: string, signal?: AbortSignal) => {
    const call = { operation, key, number: calls.length + 1 }
    calls.push(call)
    const mishap = self.plan(call)
    if (mishap?.kind === 'error')
      throw storageError(mishap.code ?? 'STORAGE_UNAVAILABLE', {
        ...failing,
        storage: storage.description,
        key,
      })
    if (mishap?.kind === 'stall') await stand(waiting, signal)
    return mishap
  }
  const lose = (mishap: StorageMishap | undefined) => {
    if (mishap?.kind === 'lost')
      throw storageError('STORAGE_UNAVAILABLE', { ...failing, storage: storage.description })
  }
  const self: FaultyStorage = {
    plan,
    calls,
    get stalled() {
      return waiting.size
    },
    release: () => {
      for (const go of waiting) go()
    },
    description: storage.description,
    conditional: storage.conditional,
    put: async (key, data, options) => {
      const mishap = await meet('put', key, options?.signal)
      await storage.put(key, damage(data, mishap), options)
      lose(mishap)
    },
    putNew: async (key, data, options) => {
      const mishap = await meet('putNew', key, options?.signal)
      const done = await storage.putNew(key, damage(data, mishap), options)
      lose(mishap)
      return done
    },
    get: async (key, options) => {
      const mishap = await meet('get', key, options?.signal)
      const [bytes] = damage([await storage.get(key, options)], mishap)
      lose(mishap)
      return bytes as Buffer
    },
    head: async key => {
      lose(await meet('head', key))
      return storage.head(key)
    },
    list: async function* (prefix, options) {
      lose(await meet('list', prefix))
      yield* storage.list(prefix, options)
    },
    delete: async keys => {
      const mishap = await meet('delete', keys[0] ?? '')
      await storage.delete(keys)
      lose(mishap)
    },
    close: () => storage.close(),
  }
  return self
}

const failing = { reason: 'the test wants it so', mend: 'None.' }

async function stand(waiting: Set<() => void>, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const give = () => reject(signal?.reason)
  waiting.add(resolve)
  signal?.addEventListener('abort', give)
  try {
    signal?.throwIfAborted()
    await promise
  } finally {
    waiting.delete(resolve)
    signal?.removeEventListener('abort', give)
  }
}

function damage(data: readonly Uint8Array[], mishap: StorageMishap | undefined): readonly Uint8Array[] {
  if (mishap?.kind !== 'truncate' && mishap?.kind !== 'flip') return data
  const whole = Buffer.concat(data)
  if (mishap.kind === 'truncate') return [whole.subarray(0, mishap.bytes)]
  const middle = whole.length >> 1
  whole[middle] = (whole[middle] as number) ^ 1
  return [whole]
}
