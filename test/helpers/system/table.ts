import { setTimeout as delay } from 'node:timers/promises'
import { Client } from './client.ts'
import { History } from './history.ts'
import { Player } from './player.ts'
import { type Program, until } from './program.ts'
import type { Random } from './random.ts'

export interface TableOptions {
  program: Program
  players: number
  random: Random
  /** How long a call may take before it counts as unknown. */
  timeoutMs?: number
}

// A player thinks: 64 who do not would only measure this machine.
const thinksMs = { least: 50, most: 400 }
const retriesMs = { least: 80, most: 300 }

/** Many players who play whenever the table is open, and remember what they were told. */
export class Table {
  readonly history = new History()
  readonly players: Player[] = []
  readonly client: Client
  readonly #random: Random
  #isOpen = false
  #playing: Promise<unknown> = Promise.resolve()
  #keys = 0

  private constructor(client: Client, random: Random) {
    this.client = client
    this.#random = random
  }

  static async seat(t: { after(work: () => void): void }, o: TableOptions): Promise<Table> {
    const timeoutMs = o.timeoutMs === undefined ? {} : { timeoutMs: o.timeoutMs }
    const client = new Client({ url: () => o.program.url, ...timeoutMs })
    t.after(() => client.close())
    const table = new Table(client, o.random)
    await table.join(o.players)
    return table
  }

  /** More players, who are in from the next opening on. */
  async join(count: number): Promise<Player[]> {
    const { client, history } = this
    const names = Array.from({ length: count }, (_, index) => `player ${this.players.length + index + 1}`)
    const joined = await Promise.all(names.map(name => Player.signIn({ name, client, history })))
    this.players.push(...joined)
    return joined
  }

  open(): void {
    this.#isOpen = true
    this.#playing = Promise.all(this.players.map(player => this.#play(player, this.#random.fork())))
  }

  /** Resolves when the last call has ended. */
  async close(): Promise<void> {
    this.#isOpen = false
    await this.#playing
  }

  /** Spins that were answered with 200. */
  get acknowledged(): number {
    return this.history.calls.filter(call => call.op === 'spin' && call.outcome.kind === 'ok').length
  }

  /** Until so many more spins were answered with 200. */
  async played(more: number, withinMs = 60_000): Promise<void> {
    const before = this.acknowledged
    await until(`${more} more spins`, () => this.acknowledged >= before + more, withinMs)
  }

  async #play(player: Player, random: Random): Promise<void> {
    while (this.#isOpen) {
      const key = `key-${this.#keys++}`
      const outcome = random.chance(0.03)
        ? await player.rotate(key, `seed-${random.whole(0, 999)}`)
        : await player.spin(key, { stakePerLine: String(random.whole(1, 20)), lines: random.whole(1, 10) })
      const pause = outcome.kind === 'ok' ? thinksMs : retriesMs
      await delay(random.whole(pause.least, pause.most))
    }
  }
}
