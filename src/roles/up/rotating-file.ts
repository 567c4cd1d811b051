import { closeSync, fstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'

export interface RotatingFileOptions {
  path: string
  limitBytes: number
  /** Files in all: server.log, server.log.1, ... */
  keep: number
}

/** Appends lines; a full file is renamed and a new one begun. A full disk costs lines, never the process. */
export class RotatingFile {
  readonly #options: RotatingFileOptions
  #fd: number | undefined
  #bytes = 0
  #lost = 0

  constructor(options: RotatingFileOptions) {
    this.#options = options
  }

  write(line: string): void {
    try {
      const fd = this.#open()
      const note = this.#lost > 0 ? `{"level":"warn","msg":"log lines were lost","lost":${this.#lost}}\n` : ''
      this.#bytes += writeSync(fd, `${note}${line}\n`)
      this.#lost = 0
      if (this.#bytes >= this.#options.limitBytes) this.#rotate()
    } catch {
      this.#lost++
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }

  #open(): number {
    if (this.#fd === undefined) {
      this.#fd = openSync(this.#options.path, 'a', 0o640)
      this.#bytes = fstatSync(this.#fd).size
    }
    return this.#fd
  }

  #rotate(): void {
    const { path, keep } = this.#options
    this.close()
    rmSync(`${path}.${keep - 1}`, { force: true })
    for (let number = keep - 2; number >= 1; number--)
      renameIfThere(`${path}.${number}`, `${path}.${number + 1}`)
    renameIfThere(path, `${path}.1`)
  }
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
