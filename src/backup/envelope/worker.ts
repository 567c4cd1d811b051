// Runs in a worker thread of pool.ts: one frame in, one frame out.
import { parentPort } from 'node:worker_threads'
import { openFrame, sealFrame } from './frame.ts'
import type { Answer, Job, OpenJob, SealJob } from './pool.ts'

parentPort?.on('message', ({ id, job }: { id: number; job: Job }) => {
  try {
    answer(id, job.verb === 'seal' ? seal(job) : open(job))
  } catch (error) {
    // Messages of the crypto and zlib modules name the fault and never the data.
    parentPort?.postMessage({ id, error: (error as Error).message } satisfies Answer)
  }
})

function seal(job: SealJob): Extract<Answer, { sealed: unknown }> {
  const sealed = sealFrame({ ...job, raw: new Uint8Array(job.raw, 0, job.length) })
  const [ciphertext, tag] = sealed.parts
  return { id: 0, sealed: { ...sealed, parts: [movable(ciphertext), movable(tag)] }, raw: job.raw }
}

function open(job: OpenJob): Extract<Answer, { opened: unknown }> {
  return { id: 0, opened: movable(openFrame(job, job.place, new Uint8Array(job.stored))) }
}

function answer(id: number, result: Answer): void {
  const moved =
    'sealed' in result
      ? [result.raw, ...result.sealed.parts.map(part => part.buffer as ArrayBuffer)]
      : 'opened' in result
        ? [result.opened.buffer as ArrayBuffer]
        : []
  parentPort?.postMessage({ ...result, id }, moved)
}

// Small buffers share Node's pool, which must not be moved away; large ones own their memory.
const surelyOwnBytes = 256 * 1024

function movable(bytes: Uint8Array): Uint8Array {
  return bytes.length >= surelyOwnBytes ? bytes : new Uint8Array(bytes)
}
