import { statSync } from 'node:fs'
import { join } from 'node:path'
import { adoptOwner } from '#lib/home.ts'
import type { SpoolFiles } from './spool-files.ts'

/** Enough to make few calls, little enough that a commit waits for at most one of them. */
const stepBytes = 1024 * 1024
const zeros = Buffer.alloc(stepBytes)

/**
 * A file of zeros for the next segment, made while the current one is received: a commit that needs a new segment then
 * waits for a rename and not for the disk to take 16 MiB.
 */
export class Spare {
  readonly #files: SpoolFiles
  readonly #path: string
  readonly #bytes: number
  #making: Promise<void> | undefined
  #isClosed = false

  constructor(o: { files: SpoolFiles; directory: string; bytes: number }) {
    this.#files = o.files
    this.#path = join(o.directory, 'spare')
    this.#bytes = o.bytes
  }

  /** Gives it the name of a segment; nothing happens when there is none. */
  take(path: string): void {
    if (this.#isThere) this.#files.rename(this.#path, path)
  }

  prepare(): void {
    if (this.#making || this.#isClosed || this.#isThere) return
    // Where there is no room now, the segment itself will say so.
    this.#making = this.#make()
      .catch(() => this.#files.remove(`${this.#path}.new`))
      .catch(() => {})
      .finally(() => {
        this.#making = undefined
      })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#making
  }

  get #isThere(): boolean {
    return statSync(this.#path, { throwIfNoEntry: false })?.size === this.#bytes
  }

  async #make(): Promise<void> {
    const path = `${this.#path}.new`
    const fd = this.#files.open(path)
    try {
      adoptOwner(path)
      for (let at = 0; at < this.#bytes; at += stepBytes) {
        if (this.#isClosed) throw new Error('closed')
        await this.#files.fill(fd, zeros.subarray(0, Math.min(stepBytes, this.#bytes - at)), at)
        await this.#files.datasync(fd)
      }
    } finally {
      this.#files.close(fd)
    }
    this.#files.rename(path, this.#path)
  }
}
