// A line that long is no log line; cut, it cannot fill the memory.
const longestLine = 64 * 1024

/** Cuts a byte stream into lines, keeping characters whole across chunks. Calls `onLine` without the line break. */
export class LineSplitter {
  readonly #onLine: (line: string) => void
  readonly #decoder = new TextDecoder()
  #rest = ''

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine
  }

  push(chunk: Uint8Array): void {
    this.#take(this.#decoder.decode(chunk, { stream: true }))
  }

  /** The last line may have come without its break. */
  end(): void {
    this.#take(this.#decoder.decode())
    if (this.#rest !== '') this.#emit(this.#rest)
    this.#rest = ''
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() as string
    for (const line of lines) this.#emit(line)
    if (this.#rest.length > longestLine) {
      this.#emit(this.#rest)
      this.#rest = ''
    }
  }

  #emit(line: string): void {
    const text = line.endsWith('\r') ? line.slice(0, -1) : line
    if (text !== '') this.#onLine(text.slice(0, longestLine))
  }
}
