import { type Clock, systemClock } from './clock.ts'
import { libFailure } from './errors.ts'
import type { Log } from './log.ts'

// Long enough for a pool to drain, short enough that a supervisor's own kill (30 s in most) never comes first.
const defaultCloseWithinMs = 10_000
// After a second signal each step that is left gets this long.
const hurriedMs = 500

/**
 * Opens things in order and closes them in reverse, each step under its own deadline. A start that fails closes what
 * was opened before it. Every step runs even when another fails; `close` then rejects with CLOSE_INCOMPLETE.
 */
export class Lifecycle {
  readonly #log: Log
  readonly #clock: Clock
  readonly #stack = new AsyncDisposableStack()
  readonly #opening = new Set<Promise<void>>()
  readonly #incomplete: string[] = []
  readonly #deadlines = new Set<Deadline>()
  #closed: Promise<void> | undefined
  #hurried = false

  constructor(options: { log: Log; clock?: Clock }) {
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
  }

  /** Resolves with what `start` gave. Throws CLOSING once close has begun; a value that came too late is closed. */
  async open<T>(
    name: string,
    start: () => Promise<T> | T,
    close?: (value: T) => Promise<void> | void,
    closeWithinMs = defaultCloseWithinMs,
  ): Promise<T> {
    if (this.#closed) throw libFailure('CLOSING', { name })
    const arrived = Promise.withResolvers<void>()
    this.#opening.add(arrived.promise)
    try {
      const value = await start()
      const step = () => this.#closeStep(name, async () => close?.(value), closeWithinMs)
      if (!this.#stack.disposed) this.#stack.defer(step)
      else await step()
      if (this.#closed) throw libFailure('CLOSING', { name })
      return value
    } catch (error) {
      arrived.resolve()
      this.#opening.delete(arrived.promise)
      await this.close().catch(() => {})
      throw error
    } finally {
      arrived.resolve()
      this.#opening.delete(arrived.promise)
    }
  }

  /** Closes everything once; later calls share the first one's outcome. */
  close(): Promise<void> {
    this.#closed ??= this.#closeAll()
    return this.#closed
  }

  /** Shortens the deadline of the running step and of those after it. */
  hurry(): void {
    this.#hurried = true
    for (const deadline of this.#deadlines) deadline.shorten(hurriedMs)
  }

  async #closeAll(): Promise<void> {
    // What is being opened right now joins the stack when it arrives in time, so that it is closed in its turn.
    if (this.#opening.size > 0) {
      await this.#within(Promise.all(this.#opening), defaultCloseWithinMs)
    }
    await this.#stack.disposeAsync()
    if (this.#incomplete.length > 0) throw libFailure('CLOSE_INCOMPLETE', { steps: this.#incomplete })
  }

  async #closeStep(name: string, close: () => Promise<void>, closeWithinMs: number): Promise<void> {
    const startedMs = this.#clock.monotonicMs()
    try {
      const outcome = await this.#within(close(), closeWithinMs)
      const tookMs = Math.round(this.#clock.monotonicMs() - startedMs)
      if (outcome === 'done') return this.#log.debug({ step: name, tookMs }, 'closed')
      this.#incomplete.push(`${name} (not closed within its deadline)`)
      this.#log.error({ step: name, tookMs }, 'step was not closed within its deadline')
    } catch (error) {
      this.#incomplete.push(`${name} (failed)`)
      this.#log.error({ step: name, err: error }, 'step failed to close')
    }
  }

  async #within(work: Promise<unknown>, ms: number): Promise<'done' | 'late'> {
    const deadline = new Deadline(this.#hurried ? Math.min(ms, hurriedMs) : ms)
    this.#deadlines.add(deadline)
    // Work that is given up may still fail later; that must not end the process.
    work.catch(() => {})
    try {
      return await Promise.race([work.then(() => 'done' as const), deadline.reached])
    } finally {
      deadline.cancel()
      this.#deadlines.delete(deadline)
    }
  }
}

class Deadline {
  readonly reached: Promise<'late'>
  readonly #reach: (outcome: 'late') => void
  readonly #atMs: number
  #timer: NodeJS.Timeout

  constructor(ms: number) {
    const { promise, resolve } = Promise.withResolvers<'late'>()
    this.reached = promise
    this.#reach = resolve
    this.#atMs = performance.now() + ms
    this.#timer = setTimeout(resolve, ms, 'late')
  }

  shorten(ms: number): void {
    if (this.#atMs - performance.now() <= ms) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.#reach, ms, 'late')
  }

  cancel(): void {
    clearTimeout(this.#timer)
  }
}

/** Calls `handler` with each arriving signal and how many came so far (1 = drain, 2 = hurry). Returns the undo. */
export function onShutdown(
  signals: NodeJS.Signals[],
  handler: (signal: NodeJS.Signals, count: number) => void,
): () => void {
  let count = 0
  const listener = (signal: NodeJS.Signals) => handler(signal, ++count)
  for (const signal of signals) process.on(signal, listener)
  return () => {
    for (const signal of signals) process.off(signal, listener)
  }
}
