import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { OpenOptions } from '#storage/open.ts'
import type { Patience } from '#storage/retry.ts'

/** What befalls the next `times` requests (1) with this method and this text in their path and query. */
export type Fault = { method?: string; url?: string; times?: number } & (
  | {
      kind: 'error'
      status: number
      code?: string
      /** The store has done what was asked all the same. */
      applied?: boolean
      /** Answered before the body was read. */
      early?: boolean
    }
  /** Nothing is done and nothing answered. */
  | { kind: 'stall' }
  /** The answer begins and does not go on. */
  | { kind: 'stall-body'; bytes: number }
  /** The connection ends after so many bytes of the answer. */
  | { kind: 'cut'; bytes: number }
  /** A shorter body that claims to be whole. */
  | { kind: 'truncate'; bytes: number }
  /** So many bytes at a time. */
  | { kind: 'slow'; bytes: number; everyMs: number }
  /** The connection ends before anything is done. */
  | { kind: 'drop' }
  /** The connection ends when it is done, instead of an answer. */
  | { kind: 'drop-applied' }
)

export interface S3Faults {
  inject(fault: Fault): Promise<void>
  clear(): Promise<void>
  /** Requests since the last asking, as `PUT /bucket/key`. */
  seen(): Promise<string[]>
}

export interface TestS3 {
  /** Of a prefix of its own in the bucket. */
  url: string
  endpoint: string
  accessKeyId: string
  secretAccessKey: string
  /** For openStorage; impatient, as tests are. */
  options: NonNullable<OpenOptions['s3']>
  /** Where the server keeps the objects, for searches through everything that was stored. */
  directory: string
  faults: S3Faults
}

export interface ServerSetup {
  directory: string
  bucket: string
  /** What the store makes of If-None-Match: keep it, ignore it, or answer 501. */
  conditions: 'kept' | 'ignored' | 'unknown'
}

export const testPatience: Patience = {
  // A busy machine must not be taken for a store that stalls; tests of stalls give a shorter one.
  stallMs: 10_000,
  requestMs: 20_000,
  slowestBytesPerSecond: 1_000_000,
  attempts: 4,
  backoffMs: 5,
  longestBackoffMs: 50,
}

const bucket = 'moonyetis-test'
// The one account that s3rver knows.
const key = 'S3RVER'

/** An S3 server with faults in front, in a process of its own that ends with the test or suite `t`. */
export async function startS3(
  t: { after(work: () => Promise<void>): void },
  o: { conditions?: ServerSetup['conditions'] } = {},
): Promise<TestS3> {
  const directory = mkdtempSync(join(tmpdir(), 'my-s3-'))
  const setup: ServerSetup = { directory, bucket, conditions: o.conditions ?? 'kept' }
  const child = fork(new URL('./s3-process.ts', import.meta.url), [JSON.stringify(setup)], {
    // Its continuation tokens are made with DES.
    execArgv: ['--openssl-legacy-provider'],
    serialization: 'advanced',
  })
  const waiting = new Map<number, (result: unknown) => void>()
  child.on('message', (message: { id: number; result: unknown }) => {
    waiting.get(message.id)?.(message.result)
    waiting.delete(message.id)
  })
  t.after(async () => {
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await ended
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  })
  const port = await new Promise((resolve, reject) => {
    waiting.set(0, resolve)
    child.once('exit', code => reject(new Error(`the S3 server ended with ${code} before it listened`)))
  })
  let calls = 0
  const call = <T>(name: string, argument?: unknown): Promise<T> =>
    new Promise(resolve => {
      const id = ++calls
      waiting.set(id, resolve as (result: unknown) => void)
      child.send({ id, name, argument })
    })
  const endpoint = `http://127.0.0.1:${port}`
  return {
    url: `s3://${bucket}/${randomBytes(4).toString('hex')}/repository`,
    endpoint,
    accessKeyId: key,
    secretAccessKey: key,
    options: {
      endpoint,
      region: 'us-east-1',
      accessKeyId: key,
      secretAccessKey: key,
      patience: testPatience,
    },
    directory,
    faults: {
      inject: fault => call('inject', fault),
      clear: () => call('clear'),
      seen: () => call('seen'),
    },
  }
}
