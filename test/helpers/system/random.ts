/** Choices that one number repeats: print the seed, and a failed run can be played again. */
export class Random {
  readonly seed: number
  #state: number

  constructor(seed: number) {
    this.seed = seed >>> 0
    this.#state = this.seed
  }

  /** MOONYETIS_SEED when it is set, else a fresh one. */
  static fromEnvironment(env: NodeJS.ProcessEnv = process.env): Random {
    return new Random(Number(env.MOONYETIS_SEED) || Math.floor(Math.random() * 2 ** 32))
  }

  /** In [0, 1). Mulberry32: enough for choices, not for secrets. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from `low` to `high`, both possible. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.whole(0, choices.length - 1)] as T
  }

  /** Its own stream, so that what one player does is not moved by what another does. */
  fork(): Random {
    return new Random(Math.floor(this.next() * 2 ** 32))
  }
}
