interface Entry<V> {
  value: V
  freshUntilMs: number
  used: boolean
}

/**
 * A bounded map whose entries end at a time. When it is full the oldest entry goes, unless it was used since it was
 * last looked at: that one gets a second chance (CLOCK), which is close to least recently used and costs a hit no
 * reordering.
 */
export class SessionCache<V> {
  readonly #entries = new Map<string, Entry<V>>()
  readonly #capacity: number

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: string, nowMs: number): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    if (nowMs >= entry.freshUntilMs) {
      this.#entries.delete(key)
      return undefined
    }
    entry.used = true
    return entry.value
  }

  set(key: string, value: V, freshUntilMs: number): void {
    this.#entries.delete(key)
    if (this.#entries.size >= this.#capacity) this.#evict()
    this.#entries.set(key, { value, freshUntilMs, used: false })
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  clear(): void {
    this.#entries.clear()
  }

  // Entries that are put back come around again in this loop, then unused: it ends after one round at most.
  #evict(): void {
    for (const [key, entry] of this.#entries) {
      this.#entries.delete(key)
      if (!entry.used) return
      entry.used = false
      this.#entries.set(key, entry)
    }
  }
}
