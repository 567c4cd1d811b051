import assert from 'node:assert/strict'
import { Worker } from 'node:worker_threads'
import { backupError } from '../errors.ts'
import { Damage } from './damage.ts'
import {
  type FrameKey,
  type FramePlace,
  openFrame,
  type SealedFrame,
  type SealFrameInput,
  sealFrame,
} from './frame.ts'

export interface SealJob extends Omit<SealFrameInput, 'raw'> {
  verb: 'seal'
  /** Moved to the worker and back: unusable until the answer is there. */
  raw: ArrayBuffer
  length: number
}

export interface OpenJob extends FrameKey {
  verb: 'open'
  place: FramePlace
  /** Moved to the worker for good. */
  stored: ArrayBuffer
}

export type Job = SealJob | OpenJob

export type Answer =
  | { id: number; sealed: SealedFrame; raw: ArrayBuffer }
  | { id: number; opened: Uint8Array }
  | { id: number; error: string }

/** Seals and opens frames: worker threads do it for streams, the caller's own thread for what is small. */
export interface FrameWorks {
  seal(job: SealJob): Promise<{ sealed: SealedFrame; raw: ArrayBuffer }>
  /** @throws Damage */
  open(job: OpenJob): Promise<Buffer>
}

interface Pending {
  job: Job
  id: number
  resolve(answer: Answer): void
  reject(error: unknown): void
}

interface Thread {
  worker: Worker
  /** By id; at most `jobsAhead`. */
  running: Map<number, Pending>
}

// One at work and one waiting beside it, so that a worker never idles while the main thread is busy.
const jobsAhead = 2
// Callers bound themselves by their buffers; this only finds one that does not.
const longestQueue = 4096

/** Worker threads that compress and encrypt, or decrypt and unpack. Once one has died the pool is unusable. */
export class SealPool implements FrameWorks {
  readonly threads: number
  readonly #threads: Thread[]
  readonly #script: URL
  readonly #queue: Pending[] = []
  #nextId = 1
  #fault: Error | undefined

  constructor(o: { threads?: number /** For tests: what the threads run. */; script?: URL } = {}) {
    this.#script = o.script ?? new URL('./worker.ts', import.meta.url)
    this.threads = o.threads ?? 2
    assert(this.threads >= 1 && this.threads <= 64, 'a pool has 1 to 64 threads')
    this.#threads = Array.from({ length: this.threads }, () => this.#start())
  }

  async seal(job: SealJob): Promise<{ sealed: SealedFrame; raw: ArrayBuffer }> {
    const answer = await this.#run(job)
    assert('sealed' in answer)
    return answer
  }

  async open(job: OpenJob): Promise<Buffer> {
    const answer = await this.#run(job)
    assert('opened' in answer)
    const { buffer, byteOffset, byteLength } = answer.opened
    return Buffer.from(buffer, byteOffset, byteLength)
  }

  /** Jobs that are still open fail. */
  async close(): Promise<void> {
    this.#fail(backupError('BACKUP_WORKERS_GONE', { reason: 'the pool was closed' }))
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  async #run(job: Job): Promise<Answer> {
    if (this.#fault) throw this.#fault
    assert(this.#queue.length < longestQueue, 'more frames wait than any buffer budget allows')
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    this.#queue.push({ job, id: this.#nextId++, resolve, reject })
    this.#dispatch()
    const answer = await promise
    if (!('error' in answer)) return answer
    throw job.verb === 'open' ? unopened(answer.error) : new Error(`a frame was not sealed: ${answer.error}`)
  }

  #start(): Thread {
    const thread: Thread = { worker: new Worker(this.#script), running: new Map() }
    // An idle pool does not keep the process alive.
    thread.worker.unref()
    thread.worker.on('message', (answer: Answer) => this.#finish(thread, answer))
    thread.worker.on('error', error => this.#die((error as Error).message, error))
    thread.worker.on('exit', code => this.#die(`a worker thread ended with ${code}`))
    return thread
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = this.#leastBusy()
      if (!thread) return
      const pending = this.#queue.shift() as Pending
      const { job, id } = pending
      if (thread.running.size === 0) thread.worker.ref()
      thread.running.set(id, pending)
      try {
        thread.worker.postMessage({ id, job }, [job.verb === 'seal' ? job.raw : job.stored])
      } catch (error) {
        // A buffer that was moved already is the fault of its caller alone.
        thread.running.delete(id)
        pending.reject(error)
      }
    }
  }

  #leastBusy(): Thread | undefined {
    const [first, ...others] = this.#threads as [Thread, ...Thread[]]
    const idlest = others.reduce((best, next) => (next.running.size < best.running.size ? next : best), first)
    return idlest.running.size < jobsAhead ? idlest : undefined
  }

  #finish(thread: Thread, answer: Answer): void {
    thread.running.get(answer.id)?.resolve(answer)
    thread.running.delete(answer.id)
    if (thread.running.size === 0) thread.worker.unref()
    this.#dispatch()
  }

  #die(reason: string, cause?: unknown): void {
    this.#fail(backupError('BACKUP_WORKERS_GONE', { reason }, { cause }))
    for (const { worker } of this.#threads) worker.terminate().catch(() => {})
  }

  #fail(fault: Error): void {
    this.#fault ??= fault
    const lost = [...this.#queue.splice(0), ...this.#threads.flatMap(({ running }) => [...running.values()])]
    for (const { running } of this.#threads) running.clear()
    for (const pending of lost) pending.reject(this.#fault)
  }
}

/** The same on the caller's thread, frame by frame with a turn of the event loop between them. */
export const onThisThread: FrameWorks = {
  async seal(job) {
    await turn()
    return { sealed: sealFrame({ ...job, raw: new Uint8Array(job.raw, 0, job.length) }), raw: job.raw }
  },
  async open(job) {
    await turn()
    try {
      return openFrame(job, job.place, new Uint8Array(job.stored))
    } catch (error) {
      throw unopened((error as Error).message)
    }
  },
}

function unopened(reason: string): Damage {
  return new Damage(`a frame does not open: ${reason}`)
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
