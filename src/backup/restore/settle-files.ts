import { open } from 'node:fs/promises'

// libuv has four threads; more would only wait for them.
const syncsAtOnce = 4

/**
 * Puts files on disk while others are still being written, so that the end has little left to wait for. What has been
 * given is on disk when finish() resolves.
 */
export class FileSettler {
  readonly #waiting: string[] = []
  readonly #running = new Set<Promise<void>>()
  #error: unknown

  add(path: string): void {
    this.#waiting.push(path)
    this.#pump()
  }

  async finish(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
    if (this.#error !== undefined) throw this.#error
  }

  #pump(): void {
    while (this.#running.size < syncsAtOnce) {
      const path = this.#waiting.shift()
      if (path === undefined) return
      const running = settle(path)
        .catch(error => {
          this.#error ??= error
        })
        .finally(() => {
          this.#running.delete(running)
          this.#pump()
        })
      this.#running.add(running)
    }
  }
}

async function settle(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
