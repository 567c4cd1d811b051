import type { Log } from '#lib/log.ts'

export interface Chore {
  name: string
  everyMs: number
  work: () => Promise<unknown>
}

/**
 * Runs chores again and again, each at its pace and never twice at once. A chore that fails is logged and tried at its
 * next turn: none of them is needed to answer a player.
 */
export class Housekeeping {
  readonly #log: Log
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #running = new Set<Promise<void>>()
  #closed = false

  constructor(log: Log) {
    this.#log = log
  }

  add(chore: Chore): void {
    const turn = () => {
      const run = this.#run(chore).finally(() => {
        this.#running.delete(run)
        if (!this.#closed) this.#later(turn, chore.everyMs)
      })
      this.#running.add(run)
    }
    this.#later(turn, chore.everyMs)
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all(this.#running)
  }

  async #run(chore: Chore): Promise<void> {
    try {
      await chore.work()
    } catch (error) {
      this.#log.warn({ err: error, chore: chore.name }, 'a chore failed')
    }
  }

  #later(turn: () => void, ms: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      turn()
    }, ms)
    this.#timers.add(timer)
  }
}
