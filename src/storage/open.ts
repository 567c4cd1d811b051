import { randomUUID } from 'node:crypto'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { DiskStorage } from './disk.ts'
import { storageError } from './errors.ts'
import { endpointFor, parseLocation, type S3Location } from './locations.ts'
import type { Patience } from './retry.ts'
import { describeS3, S3Storage } from './s3.ts'
import type { Storage } from './storage.ts'

export interface OpenOptions {
  /** `file:///srv/backups` or `s3://bucket/prefix`. */
  url: string
  s3?: {
    /** Of a store other than Amazon; https, or http on this machine. */
    endpoint?: string | undefined
    region: string
    accessKeyId?: string | undefined
    secretAccessKey?: string | undefined
    /** Says that plain http to another machine is meant. */
    allowPlainHttp?: boolean | undefined
    patience?: Patience | undefined
  }
  /** What an earlier probe found: a store that is away can then be opened, and is asked when it is back. */
  known?: { conditional: boolean }
  log: Log
}

/**
 * Opens a directory or a bucket, and finds out by a small object whether the store decides putNew by itself. One that
 * does not is used all the same, in single-writer mode, with a warning.
 * @throws STORAGE_URL_INVALID, STORAGE_CREDENTIALS_MISSING, and what the first requests meet
 */
export async function openStorage(o: OpenOptions): Promise<Storage> {
  const location = parseLocation(o.url)
  if (location.kind === 's3') return openS3(location, o)
  const disk = await DiskStorage.open({ root: location.root, log: o.log })
  if (!o.known) await probeOnce(disk.description, disk, o.log)
  return disk
}

async function openS3({ bucket, prefix }: S3Location, { s3, known, log }: OpenOptions): Promise<Storage> {
  const { endpoint, accessKeyId, secretAccessKey, allowPlainHttp, patience } = s3 ?? {}
  const region = s3?.region ?? 'us-east-1'
  const where = endpointFor({ bucket, region, endpoint, allowPlainHttp })
  if (!accessKeyId || !secretAccessKey)
    throw storageError('STORAGE_CREDENTIALS_MISSING', { storage: describeS3(bucket, prefix) })
  const common = { bucket, prefix, region, accessKeyId, secretAccessKey, endpoint: where, patience, log }
  if (known) return new S3Storage({ ...common, conditional: known.conditional })
  const storage = new S3Storage({ ...common, conditional: true })
  try {
    if (await probeOnce(`${where.base}/${prefix}`, storage, log)) return storage
  } catch (error) {
    await storage.close()
    throw error
  }
  await storage.close()
  return new S3Storage({ ...common, conditional: false })
}

// One process opens the same repository again and again.
const probes = new Map<string, Promise<boolean>>()

function probeOnce(store: string, storage: Storage, log: Log): Promise<boolean> {
  const known = probes.get(store)
  if (known) return known
  const probing = probe(storage, log)
  probes.set(store, probing)
  // A store that was away is asked again by the next one.
  probing.catch(() => probes.delete(store))
  return probing
}

const probePrefix = 'probe/'
// A probe takes seconds; an older one has lost its process.
const leftoverAfterMs = 3_600_000

async function probe(storage: Storage, log: Log): Promise<boolean> {
  const key = `${probePrefix}${String(Date.now()).padStart(15, '0')}-${randomUUID()}`
  let verdict: Verdict
  try {
    verdict = await decidesByItself(storage, key)
  } catch (error) {
    verdict = await readableAtLeast(storage, error)
  }
  if (verdict === 'read-only') {
    log.info({ storage: storage.description }, 'storage opened for reading: it refuses to be written')
    return true
  }
  await storage.delete([key, ...(await leftovers(storage))])
  if (verdict === 'ignores')
    log.warn(
      { storage: storage.description },
      'the storage ignores conditional writes: let only one machine write backups into it',
    )
  return verdict === 'decides'
}

type Verdict = 'decides' | 'ignores' | 'read-only'

async function decidesByItself(storage: Storage, key: string): Promise<Verdict> {
  try {
    const first = await storage.putNew(key, [Buffer.from('first')])
    const second = await storage.putNew(key, [Buffer.from('second')])
    const kept = (await storage.get(key)).toString()
    return first && !second && kept === 'first' ? 'decides' : 'ignores'
  } catch (error) {
    // Some say so: 501 Not Implemented.
    if (error instanceof Failure && error.facts.status === 501) return 'ignores'
    throw error
  }
}

/** A restore needs to read only, and may have been given no more than that. */
async function readableAtLeast(storage: Storage, error: unknown): Promise<Verdict> {
  if (!(error instanceof Failure) || !['STORAGE_REFUSED', 'STORAGE_FULL'].includes(error.code)) throw error
  for await (const _ of storage.list('')) return 'read-only'
  throw error
}

async function leftovers(storage: Storage): Promise<string[]> {
  const keys: string[] = []
  const before = Date.now() - leftoverAfterMs
  for await (const { key } of storage.list(probePrefix))
    if (Number(key.slice(probePrefix.length).split('-')[0]) < before) keys.push(key)
  return keys
}
