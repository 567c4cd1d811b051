import type { Clock } from '#lib/clock.ts'

export interface BackupProgress {
  phase: 'connecting' | 'checkpoint' | 'data' | 'wal' | 'files' | 'completing'
  /** Of the raw archives. */
  bytesDone: number
  /** As the server estimates it; 0 while it is not known. */
  bytesTotal: number
  storedBytes: number
  bytesPerSecond: number
  /** Absent while it is not known. */
  etaSeconds?: number
}

// What the rate is measured over: long enough to be calm, short enough to follow.
const windowMs = 10_000
const everyMs = 100

/** Tells progress a few times a second, and each change of phase at once. */
export class ProgressMeter {
  readonly #clock: Clock
  readonly #tell: (progress: BackupProgress) => void
  #phase: BackupProgress['phase'] = 'connecting'
  #done = { bytesDone: 0, bytesTotal: 0, storedBytes: 0 }
  #toldMs = Number.NEGATIVE_INFINITY
  readonly #samples: { atMs: number; bytes: number }[] = []

  constructor(o: { clock: Clock; onProgress?: ((progress: BackupProgress) => void) | undefined }) {
    this.#clock = o.clock
    this.#tell = o.onProgress ?? (() => {})
  }

  phase(phase: BackupProgress['phase']): void {
    this.#phase = phase
    this.#say()
  }

  bytes(done: { bytesDone?: number; bytesTotal?: number; storedBytes?: number }): void {
    this.#done = { ...this.#done, ...done }
    if (this.#clock.monotonicMs() - this.#toldMs >= everyMs) this.#say()
  }

  #say(): void {
    const { bytesDone } = this.#done
    // The server's figure is an estimate; files grow while they are read.
    const bytesTotal = this.#done.bytesTotal && Math.max(bytesDone, this.#done.bytesTotal)
    const bytesPerSecond = this.#rate(bytesDone)
    const known = this.#phase === 'data' && bytesPerSecond > 0 && bytesTotal > 0
    const etaSeconds = known ? { etaSeconds: (bytesTotal - bytesDone) / bytesPerSecond } : {}
    this.#tell({ ...this.#done, phase: this.#phase, bytesTotal, bytesPerSecond, ...etaSeconds })
  }

  #rate(bytes: number): number {
    const nowMs = this.#clock.monotonicMs()
    this.#toldMs = nowMs
    this.#samples.push({ atMs: nowMs, bytes })
    while (this.#samples.length > 2 && nowMs - (this.#samples[0]?.atMs ?? nowMs) > windowMs)
      this.#samples.shift()
    const [first] = this.#samples
    if (!first || nowMs - first.atMs < 1) return 0
    return Math.max(0, ((bytes - first.bytes) * 1000) / (nowMs - first.atMs))
  }
}
