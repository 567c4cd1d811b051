import type { Context } from '../program.ts'

export interface Bar {
  /** Such as `reading`. */
  phase: string
  done: number
  /** 0 when it is not known yet. */
  total: number
  /** What is counted; bytes are shown as MB. */
  unit: 'bytes' | string
  perSecond?: number
  etaSeconds?: number
}

// Fast enough for an eye, slow enough for a pipe or a log.
const paintEveryMs = 200
const lineEveryMs = 500
const barWidth = 24

/** Progress of long work: a bar on a terminal, JSON lines with --json, nothing else in a pipe. */
export function showProgress<Progress extends object>(
  context: Pick<Context, 'json' | 'print'>,
  toBar: (progress: Progress) => Bar,
): { show(progress: Progress): void; clear(): void } {
  let lastMs = 0
  let painted = false
  const due = (everyMs: number) => {
    const nowMs = performance.now()
    if (nowMs - lastMs < everyMs) return false
    lastMs = nowMs
    return true
  }
  return {
    show: progress => {
      if (context.json) {
        if (due(lineEveryMs)) context.print(JSON.stringify({ event: 'progress', ...progress }))
      } else if (process.stderr.isTTY && due(paintEveryMs)) {
        painted = true
        process.stderr.write(`\r\u001b[2K${barText(toBar(progress))}`)
      }
    },
    clear: () => {
      if (painted) process.stderr.write('\r\u001b[2K')
    },
  }
}

/** `[############            ]  50 %  512 of 1024 MB  230 MB/s  2 s left  reading`. */
export function barText({ phase, done, total, unit, perSecond, etaSeconds }: Bar): string {
  const share = total > 0 ? Math.min(1, done / total) : 0
  const filled = Math.round(share * barWidth)
  const amounts =
    unit === 'bytes'
      ? `${megabytes(done)}${total > 0 ? ` of ${megabytes(total)}` : ''} MB`
      : `${done}${total > 0 ? ` of ${total}` : ''} ${unit}`
  return [
    `[${'#'.repeat(filled).padEnd(barWidth)}]`,
    `${String(Math.floor(share * 100)).padStart(3)} %`,
    amounts,
    perSecond === undefined
      ? ''
      : `${unit === 'bytes' ? megabytes(perSecond) : Math.round(perSecond)} ${unit === 'bytes' ? 'MB' : unit}/s`,
    etaSeconds === undefined ? '' : `${duration(etaSeconds)} left`,
    phase,
  ]
    .filter(part => part !== '')
    .join('  ')
}

export function megabytes(bytes: number): string {
  const value = bytes / 1_000_000
  return value >= 10 || value === 0 ? String(Math.round(value)) : value.toFixed(1)
}

export function duration(seconds: number): string {
  const whole = Math.ceil(seconds)
  if (whole < 120) return `${whole} s`
  return whole < 7200 ? `${Math.ceil(whole / 60)} min` : `${(whole / 3600).toFixed(1)} h`
}

/**
 * Aborts on Ctrl-C, on SIGTERM and, with `attached`, when standard input closes: then whoever started this process is
 * gone. A second signal ends the process as it would without us.
 */
export function abortSignal(o: { attached: boolean }): AbortSignal & Disposable {
  const controller = new AbortController()
  const abort = () => {
    release()
    controller.abort(new DOMException('cancelled', 'AbortError'))
  }
  const release = () => {
    process.off('SIGINT', abort).off('SIGTERM', abort).off('SIGHUP', abort)
    if (o.attached) process.stdin.off('end', abort).off('close', abort).pause()
  }
  process.on('SIGINT', abort).on('SIGTERM', abort).on('SIGHUP', abort)
  if (o.attached) process.stdin.on('end', abort).on('close', abort).resume()
  return Object.assign(controller.signal, { [Symbol.dispose]: release })
}
