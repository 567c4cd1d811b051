/** Soon enough that a restart of the server is hardly seen, and never a load. */
const firstMs = 50
const mostMs = 2_000

export class Backoff {
  #nextMs = firstMs

  nextMs(): number {
    const ms = this.#nextMs
    this.#nextMs = Math.min(mostMs, ms * 2)
    return ms
  }

  reset(): void {
    this.#nextMs = firstMs
  }
}
