import { createHash } from 'node:crypto'
import type { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { storageError } from './errors.ts'
import { assertKey, assertPrefix, compareKeys, isKey, sizeOf } from './keys.ts'
import type { Endpoint } from './locations.ts'
import { backoffFor, type Patience, pause, usualPatience } from './retry.ts'
import { deletionDocument, type ListingPage, readDeletion, readListing } from './s3-documents.ts'
import { type Refusal, refusalFailure, refusalOf, troubleFailure } from './s3-failures.ts'
import { type Body, bodyOf, documentBytes, type S3Answer, S3Sender, Trouble } from './s3-request.ts'
import type { ObjectInfo, Storage } from './storage.ts'

export interface S3Options {
  bucket: string
  /** Without slashes at its ends; may be empty. */
  prefix: string
  endpoint: Endpoint
  region: string
  accessKeyId: string
  secretAccessKey: string
  /** False for a store that ignores conditions: putNew then looks first, which two writers at once can get wrong. */
  conditional: boolean
  patience?: Patience | undefined
  /** How many objects a listing asks for at once; the store's own limit, 1000. */
  keysPerPage?: number
  log: Log
}

interface Call {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** Without one it is about the bucket. */
  key?: string
  query?: Record<string, string>
  headers?: Record<string, string>
  body?: Body
  answerAtMost?: number
  signal?: AbortSignal | undefined
  /** Statuses that are answers to this call; 2xx always are. */
  expected?: readonly number[]
  /** Told of each try whose effect is not known. */
  onUnknown?(): void
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
const deletesPerRequest = 1000
const deletesAtOnce = 8
const largestObjectBytes = 80 * 1024 * 1024

/**
 * A bucket, or what is under a prefix of it, at Amazon or a compatible store. Every request is signed together with the
 * SHA-256 of its body, which the store compares; every answer's length is checked. Requests that failed by chance are
 * repeated with growing pauses. An ETag is never taken for a hash.
 */
export class S3Storage implements Storage {
  readonly description: string
  readonly conditional: boolean
  readonly #o: S3Options
  readonly #patience: Patience
  readonly #sender: S3Sender
  /** With its slash, or empty. */
  readonly #prefix: string

  constructor(o: S3Options) {
    this.description = describeS3(o.bucket, o.prefix)
    this.conditional = o.conditional
    this.#o = o
    this.#patience = o.patience ?? usualPatience
    this.#sender = new S3Sender({ ...o, patience: this.#patience })
    this.#prefix = o.prefix ? `${o.prefix}/` : ''
  }

  async put(key: string, data: readonly Uint8Array[], options: { signal?: AbortSignal } = {}): Promise<void> {
    sizeOf(key, data)
    const body = await bodyOf(data)
    await this.#call({ method: 'PUT', key, body, signal: options.signal, headers: headersOf(body) })
  }

  async putNew(
    key: string,
    data: readonly Uint8Array[],
    options: { signal?: AbortSignal } = {},
  ): Promise<boolean> {
    if (!this.conditional) {
      if (await this.head(key)) return false
      await this.put(key, data, options)
      return true
    }
    sizeOf(key, data)
    const body = await bodyOf(data)
    let unknown = false
    try {
      const answer = await this.#call({
        method: 'PUT',
        key,
        body,
        signal: options.signal,
        headers: { ...headersOf(body), 'if-none-match': '*' },
        expected: [412],
        onUnknown: () => {
          unknown = true
        },
      })
      if (answer.status !== 412) return true
      // What is there may be what an earlier try of ours wrote without our hearing of it.
      return unknown && (await this.#holds(key, body))
    } catch (error) {
      if (!unknown || options.signal?.aborted) throw error
      const there = await this.#resolve(key, body)
      if (there === undefined) throw error
      return there
    }
  }

  async get(
    key: string,
    options: { offset?: number; length?: number; signal?: AbortSignal } = {},
  ): Promise<Buffer> {
    const { offset = 0, length } = options
    // A range has at least one byte.
    if (length === 0 && (await this.head(key))) return Buffer.alloc(0)
    const answer = await this.#call({
      method: 'GET',
      key,
      signal: options.signal,
      expected: [404, 416],
      answerAtMost: Math.max(length ?? largestObjectBytes, documentBytes),
      // Also for the whole: the answer to a range says how large the object is, and so shows what is missing.
      headers: { range: `bytes=${offset}-${length === undefined ? '' : offset + length - 1}` },
    })
    if (answer.status === 404) throw this.#absent(answer, key)
    // Nothing is there from this offset on.
    if (answer.status === 416) return Buffer.alloc(0)
    // A store may answer a range with the whole object.
    if (answer.status !== 206) return answer.body.subarray(offset, length && offset + length)
    this.#checkRange(key, answer, offset, length)
    return answer.body
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const answer = await this.#call({ method: 'HEAD', key, expected: [404] })
    if (answer.status === 404) return undefined
    const bytes = Number(answer.headers['content-length'])
    if (!Number.isSafeInteger(bytes)) throw this.#strange(key, 'an answer to HEAD without a length')
    return { key, bytes }
  }

  async *list(prefix: string, options: { after?: string } = {}): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix)
    let continuation: string | undefined
    let last = options.after ?? ''
    do {
      const page = await this.#page(prefix, last, continuation)
      const found = page.objects
        .map(({ key, bytes }) => ({ key: key.slice(this.#prefix.length), bytes }))
        // Others may keep things in the bucket too.
        .filter(({ key }) => isKey(key) && key.startsWith(prefix))
        .sort((left, right) => compareKeys(left.key, right.key))
      for (const object of found) {
        // Directory buckets do so; retention would take a backup for missing.
        if (object.key <= last)
          throw this.#strange(object.key, 'a listing that is not in the order of the keys')
        yield object
        last = object.key
      }
      continuation = page.continuation
    } while (continuation !== undefined)
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) assertKey(key)
    if (keys.length === 1) return this.#deleteOne(keys[0] as string)
    for (let at = 0; at < keys.length; at += deletesPerRequest)
      await this.#deleteMany(keys.slice(at, at + deletesPerRequest))
  }

  async close(): Promise<void> {
    this.#sender.close()
  }

  async #page(prefix: string, after: string, continuation: string | undefined): Promise<ListingPage> {
    const from: Record<string, string> = {}
    if (this.#o.keysPerPage) from['max-keys'] = String(this.#o.keysPerPage)
    if (continuation !== undefined) from['continuation-token'] = continuation
    else if (after !== '') from['start-after'] = this.#prefix + after
    const answer = await this.#call({
      method: 'GET',
      query: { 'list-type': '2', 'encoding-type': 'url', prefix: this.#prefix + prefix, ...from },
      answerAtMost: documentBytes,
    })
    const page = readListing(answer.body)
    if (!page) throw this.#strange(prefix, 'a listing that cannot be read')
    return page
  }

  async #deleteOne(key: string): Promise<void> {
    await this.#call({ method: 'DELETE', key, expected: [404] })
  }

  async #deleteMany(keys: readonly string[]): Promise<void> {
    let rest = keys
    for (let attempt = 1; rest.length > 0; attempt++) {
      const failed = await this.#deleteAtOnce(rest)
      if (failed === undefined) return this.#deleteEach(rest)
      const [first] = failed
      if (!first) return
      const refusal = { ...first, status: 200, region: undefined, again: mayPass.test(first.code) }
      if (!refusal.again || attempt === this.#patience.attempts) throw this.#refused(refusal, first.key)
      rest = failed.map(({ key }) => key)
      await this.#pause(attempt, undefined)
    }
  }

  /** What was not deleted; undefined when the store does not know this request. */
  async #deleteAtOnce(
    keys: readonly string[],
  ): Promise<{ key: string; code: string; message: string }[] | undefined> {
    const document = Buffer.from(deletionDocument(keys.map(key => this.#prefix + key)))
    const answer = await this.#call({
      method: 'POST',
      query: { delete: '' },
      body: await bodyOf([document]),
      headers: {
        'content-type': 'application/xml',
        'content-md5': createHash('md5').update(document).digest('base64'),
      },
      expected: [404, 405, 501],
      answerAtMost: documentBytes,
    })
    if (answer.status >= 300) {
      const refusal = refusalOf(answer)
      if (refusal.code === 'NoSuchBucket') throw this.#refused(refusal, '')
      return undefined
    }
    const failed = readDeletion(answer.body)
    if (!failed) throw this.#strange('', 'an answer to a deletion that cannot be read')
    return failed
      .filter(({ code }) => code !== 'NoSuchKey')
      .map(one => ({ ...one, key: one.key.slice(this.#prefix.length) }))
  }

  async #deleteEach(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += deletesAtOnce)
      await Promise.all(keys.slice(at, at + deletesAtOnce).map(key => this.#deleteOne(key)))
  }

  /** Sends until there is an answer. @throws STORAGE_UNAVAILABLE, STORAGE_TIMEOUT, STORAGE_TRUNCATED, STORAGE_REFUSED, STORAGE_FULL */
  async #call(call: Call): Promise<S3Answer> {
    if (call.key !== undefined) assertKey(call.key)
    for (let attempt = 1; ; attempt++) {
      const { failure, again, askedSeconds, answer } = await this.#attempt(call)
      if (answer) return answer
      if (!again || attempt === this.#patience.attempts) throw failure
      this.#o.log.debug(
        { storage: this.description, key: call.key, attempt, err: failure },
        'request repeated',
      )
      await this.#pause(attempt, askedSeconds, call.signal)
    }
  }

  async #attempt(call: Call): Promise<Attempt> {
    try {
      const answer = await this.#sender.send({
        method: call.method,
        url: this.#url(call),
        answerAtMost: call.answerAtMost ?? documentBytes,
        signal: call.signal,
        ...(call.headers && { headers: call.headers }),
        ...(call.body && { body: call.body }),
      })
      if ((answer.status >= 200 && answer.status < 300) || call.expected?.includes(answer.status))
        return { answer }
      const refusal = refusalOf(answer)
      // A proxy may have given up on a store that goes on working.
      if (answer.status >= 500) call.onUnknown?.()
      const askedSeconds = Number(answer.headers['retry-after'] ?? 0) || 0
      return { failure: this.#refused(refusal, call.key ?? ''), again: refusal.again, askedSeconds }
    } catch (error) {
      if (!(error instanceof Trouble)) throw error
      if (!error.notSent) call.onUnknown?.()
      return { failure: troubleFailure(error, call.method, this.#place(call.key ?? '')), again: true }
    }
  }

  #url({ key, query }: Call): string {
    const path = key === undefined ? '' : `/${this.#prefix}${key}`
    const url = `${this.#o.endpoint.base}${path}`
    return query ? `${url}?${new URLSearchParams(query)}` : url
  }

  #pause(attempt: number, askedSeconds: number | undefined, signal?: AbortSignal): Promise<void> {
    const ms = backoffFor({
      ...this.#patience,
      attempt,
      random: Math.random(),
      askedSeconds: askedSeconds ?? 0,
    })
    return pause(ms, signal)
  }

  /** After the last try of a putNew whose effect is not known; undefined when it is still not known or nothing is there. */
  async #resolve(key: string, body: Body): Promise<boolean | undefined> {
    try {
      return await this.#holds(key, body)
    } catch {
      return undefined
    }
  }

  async #holds(key: string, body: Body): Promise<boolean> {
    const there = await this.get(key)
    if (there.byteLength !== body.bytes) return false
    let at = 0
    return body.parts.every(part => {
      const same = there.subarray(at, at + part.byteLength).equals(part)
      at += part.byteLength
      return same
    })
  }

  #checkRange(key: string, answer: S3Answer, offset: number, length: number | undefined): void {
    const got = answer.body.byteLength
    const [, from, to, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.headers['content-range'] ?? '') ?? []
    if (from === undefined || Number(from) !== offset)
      throw this.#strange(key, 'another range than was asked for')
    const expected = Math.min(length ?? Number.POSITIVE_INFINITY, Number(total) - offset)
    if (got !== expected || Number(to) - offset + 1 !== got)
      throw storageError('STORAGE_TRUNCATED', { key, got, expected, storage: this.description })
  }

  #absent(answer: S3Answer, key: string): Failure {
    const refusal = refusalOf(answer)
    if (refusal.code === 'NoSuchBucket') return this.#refused(refusal, key)
    return storageError('STORAGE_NOT_FOUND', { key, storage: this.description })
  }

  #refused(refusal: Refusal, key: string): Failure {
    return refusalFailure(refusal, this.#place(key))
  }

  #strange(key: string, what: string): Failure {
    const reason = `it gave ${what} (${key || 'bucket'})`
    const mend = 'See whether S3_ENDPOINT is a store that speaks the S3 protocol, and nothing in between.'
    return storageError('STORAGE_REFUSED', { key, storage: this.description, reason, mend })
  }

  #place(key: string) {
    return { storage: this.description, bucket: this.#o.bucket, host: this.#o.endpoint.host, key }
  }
}

export function describeS3(bucket: string, prefix: string): string {
  return `s3://${bucket}${prefix ? `/${prefix}` : ''}`
}

interface Attempt {
  answer?: S3Answer
  failure?: Failure
  again?: boolean
  askedSeconds?: number
}

/** The signed hash is compared by every store; the second one Amazon keeps too, and wants where Object Lock is on. */
function headersOf({ sha256 }: Body): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    'x-amz-checksum-sha256': Buffer.from(sha256, 'hex').toString('base64'),
  }
}

const mayPass = /^(InternalError|SlowDown|ServiceUnavailable|OperationAborted)$/
