import type { Clock } from '#lib/clock.ts'
import type { DrillStep } from '../model.ts'

export interface StepsOptions {
  clock: Clock
  /** After it none begins but those that always do. */
  signal?: AbortSignal | undefined
  onStep: (name: string) => void
}

/** Runs the steps of a drill one after the other and writes down how each went. */
export class Steps {
  readonly done: DrillStep[] = []
  readonly #o: StepsOptions

  constructor(options: StepsOptions) {
    this.#o = options
  }

  /** The first one that failed. */
  get failed(): DrillStep | undefined {
    return this.done.find(step => !step.ok)
  }

  /** `work` gives its result and what to say of it. */
  async run<T>(
    name: string,
    work: () => Promise<{ result: T; detail: string }>,
    { always = false } = {},
  ): Promise<T> {
    const { clock, signal, onStep } = this.#o
    if (!always) signal?.throwIfAborted()
    onStep(name)
    const beganMs = clock.monotonicMs()
    try {
      const { result, detail } = await work()
      this.#note(name, true, beganMs, detail)
      return result
    } catch (error) {
      this.#note(name, false, beganMs, (error as Error).message)
      throw error
    }
  }

  async say(name: string, work: () => Promise<string>, options?: { always: boolean }): Promise<void> {
    await this.run(name, async () => ({ result: undefined, detail: await work() }), options)
  }

  /** One that was a part of another. */
  note(step: DrillStep): void {
    this.done.push(step)
  }

  #note(name: string, ok: boolean, beganMs: number, detail: string): void {
    this.done.push({ name, ok, seconds: (this.#o.clock.monotonicMs() - beganMs) / 1000, detail })
  }
}
