import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { nextRestart, noRestarts, type RestartPolicy } from '#lib/restarts.ts'
import type { ExitFacts, PostgresNode } from './node.ts'
import type { StopMode } from './stop.ts'

/** Named as in the replication states: a single node is Solo. */
export type KeeperState = 'Booting' | 'Solo' | 'Halted'

export interface KeeperOptions {
  node: PostgresNode
  log: Log
  clock: Clock
  startWithinMs: number
  /** Runs each time the node has become reachable, before it counts as ready. */
  prepare: () => Promise<void>
}

// Crash recovery comes first; a server that cannot start at all must not spin on the disk.
const policy: RestartPolicy = { firstDelayMs: 250, longestDelayMs: 10_000, stableAfterMs: 60_000 }

/** Keeps one PostgreSQL running: adopts or starts it, and starts it again when it dies. */
export class NodeKeeper {
  readonly #options: KeeperOptions
  readonly #stopping = new AbortController()
  #state: KeeperState = 'Booting'
  #reason = 'PostgreSQL is being started'
  #history = noRestarts

  constructor(options: KeeperOptions) {
    this.#options = options
  }

  get state(): KeeperState {
    return this.#state
  }

  /** In plain words, why the state is what it is. */
  get reason(): string {
    return this.#reason
  }

  get ready(): boolean {
    return this.#state === 'Solo' && this.#options.node.running !== undefined
  }

  /** Resolves after stop(); rejects with a Failure that a restart cannot mend, PostgreSQL stopped. */
  async run(): Promise<void> {
    const { node, clock } = this.#options
    await node.initialise()
    while (!this.#stopping.signal.aborted) {
      const startedMs = clock.monotonicMs()
      await this.#runOnce()
      if (this.#stopping.signal.aborted) return
      const next = nextRestart(this.#history, clock.monotonicMs() - startedMs, policy)
      this.#history = next.history
      await delay(next.delayMs, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
  }

  /** Stops PostgreSQL and ends run(). A second call with `immediate` hurries the first. */
  async stop(options: { mode: StopMode; withinMs: number }): Promise<void> {
    const { node, log } = this.#options
    this.#stopping.abort()
    this.#become('Halted', 'it was told to stop')
    const outcome = await node.stop(options)
    log.info({ node: node.name, outcome }, 'PostgreSQL stopped')
  }

  async #runOnce(): Promise<void> {
    const { node, log, startWithinMs } = this.#options
    try {
      const running = await node.start(startWithinMs)
      if (this.#stopping.signal.aborted) return
      const exit = untilExit(node)
      await this.#options.prepare()
      const how = running.adopted ? 'PostgreSQL was adopted' : 'PostgreSQL started'
      log.info({ node: node.name, postmaster: running.pid, port: running.port, version: node.version }, how)
      this.#become('Solo', `${how} and is the only node`)
      const facts = await exit
      this.#died(facts)
    } catch (error) {
      if (this.#stopping.signal.aborted) return
      await this.#failed(error)
    }
  }

  #died(facts: ExitFacts): void {
    if (this.#stopping.signal.aborted) return
    const how = facts.signal ?? (facts.code === undefined ? 'cause unknown' : `exit ${facts.code}`)
    this.#become('Booting', `PostgreSQL ended (${how}) and is being started again`)
    this.#options.log.error({ node: this.#options.node.name, ...facts }, 'PostgreSQL ended unexpectedly')
  }

  async #failed(error: unknown): Promise<void> {
    const { node, log } = this.#options
    const reason = error instanceof Error ? error.message : String(error)
    if (error instanceof Failure && !error.row.retry) {
      this.#become('Halted', reason)
      // Refused for safety: whoever owns the directory keeps it.
      if (error.row.exit !== 3) await node.stop({ mode: 'fast', withinMs: 10_000 })
      throw error
    }
    this.#become('Booting', `PostgreSQL could not be used: ${reason}`)
    log.error({ node: node.name, err: error }, 'PostgreSQL could not be used, trying again')
  }

  #become(state: KeeperState, reason: string): void {
    this.#state = state
    this.#reason = reason
  }
}

function untilExit(node: PostgresNode): Promise<ExitFacts> {
  const { promise, resolve } = Promise.withResolvers<ExitFacts>()
  node.watch(resolve)
  return promise
}
