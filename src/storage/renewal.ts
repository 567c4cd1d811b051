/** Runs the work again and again, never twice at once; `work` deals with its own errors. Keeps no process alive. */
export function repeat(o: { everyMs: number; work(): Promise<void> }): { stop(): Promise<void> } {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let running = Promise.resolve()
  const schedule = () => {
    if (stopped) return
    timer = setTimeout(() => {
      running = o.work().finally(schedule)
    }, o.everyMs).unref()
  }
  schedule()
  return {
    stop: () => {
      stopped = true
      clearTimeout(timer)
      return running
    },
  }
}

/** Waits no longer than that, also for work that does not listen to its signal. */
export async function within<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const limit = new AbortController()
  const over = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const error = new Error(`it took longer than ${Math.round(ms)} ms`)
    limit.abort(error)
    over.reject(error)
  }, ms)
  try {
    return await Promise.race([work(limit.signal), over.promise])
  } finally {
    clearTimeout(timer)
  }
}
