import { SealPool } from '#backup/envelope/pool.ts'

/** What a process of ours is told, as JSON in its first argument. */
export interface OursPlace {
  /** Where the home with the keys is. */
  home: string
  /** A directory. */
  repository: string
}

/** The one line that it prints. */
export interface OursResult {
  /** From the start of the process to its first line of work. */
  startSeconds: number
  peakMegabytes: number
}

/** To be called when everything is loaded, and the answer when all is done. */
export function beginWork(): () => void {
  const startSeconds = performance.now() / 1000
  return () => {
    const result: OursResult = { startSeconds, peakMegabytes: process.resourceUsage().maxRSS / 1024 }
    process.stdout.write(`${JSON.stringify(result)}\n`)
  }
}

/** Whoever ends the bench must not leave a half-made backup or a server of a restore behind. */
export function untilEnded(): AbortSignal {
  const ended = new AbortController()
  process.once('SIGTERM', () => ended.abort())
  return ended.signal
}

/** As many threads as the configuration has by default. */
export function openPool(): SealPool & AsyncDisposable {
  const pool = new SealPool({ threads: 2 })
  return Object.assign(pool, { [Symbol.asyncDispose]: () => pool.close() })
}
