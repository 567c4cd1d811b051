import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '#lib/clock.ts'
import type { Home } from '#lib/home.ts'
import type { Log } from '#lib/log.ts'
import { openState } from '#lib/state.ts'
import type { Job, Jobs } from '../jobs/jobs.ts'
import type { ScheduleStatus } from '../status.ts'
import { checkSchedule, dueNow, nextRun, type Schedule } from './policy.ts'

/** When runs of each kind last began and then ended well, as the repository tells. */
export interface DoneAt {
  backup?: Date
  drill?: Date
  verify?: Date
  /** Whether any database backup of the archived database is complete. */
  anyBackup: boolean
}

export interface SchedulerOptions {
  home: Home
  schedules: readonly Schedule[]
  /** A database that has no backup gets its first one this long after the start. */
  firstAfterMs: number
  verifyEveryDays: number
  jobs: Jobs
  doneAt: () => DoneAt | undefined
  clock: Clock
  log: Log
  tickMs?: number
}

const migrations = [
  `CREATE TABLE tried (name TEXT PRIMARY KEY, slot TEXT NOT NULL) STRICT;
   CREATE TABLE installation (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), since TEXT NOT NULL) STRICT;`,
]

// A backup first: the drill and the check that come due with it then look at the new one.
const order = ['backup', 'verify', 'drill'] as const
const verbOf = { backup: 'full', verify: 'verify', drill: 'drill' } as const

interface Run {
  name: (typeof order)[number]
  args: string[]
  by: string
}

// Until a first backup is there, or a hole is healed, something cannot be restored: a failure is tried again soon.
const againMs = 60_000

/** Starts what is due, one job at a time. What it tried is in state/, so a restart does not try it again. */
export class Scheduler {
  readonly #o: SchedulerOptions
  readonly #state: DatabaseSync
  readonly #since: Date
  readonly #startedMs: number
  #timer: NodeJS.Timeout | undefined
  #healing: { reason: string; nextMs: number } | undefined
  #firstTriedMs: number | undefined

  /** @throws BACKUP_SCHEDULE_INVALID */
  constructor(options: SchedulerOptions) {
    for (const schedule of options.schedules) checkSchedule(schedule)
    this.#o = options
    this.#state = openState({ home: options.home, name: 'archive', migrations })
    this.#since = this.#installedAt()
    this.#startedMs = options.clock.monotonicMs()
  }

  start(): void {
    // Schedules are to the minute; a tick costs microseconds.
    this.#timer = setInterval(() => this.#tickSafely(), this.#o.tickMs ?? 5_000)
  }

  /** Commits may wait for this process: a full disk under state/ must not end it. */
  #tickSafely(): void {
    try {
      this.tick()
    } catch (error) {
      this.#o.log.error({ err: error }, 'what is due cannot be started, trying again')
    }
  }

  close(): void {
    clearInterval(this.#timer)
    this.#state.close()
  }

  /** A hole in the log makes later moments unreachable: the next job is a backup that a whole chain starts from. */
  heal(reason: string): void {
    this.#healing = { reason, nextMs: this.#o.clock.monotonicMs() }
  }

  /** To be told of every job's end: a backup that ended well has healed what was to heal. */
  ended(job: Job): void {
    if (job.state === 'done' && (job.kind === 'full' || job.kind === 'db')) this.#healing = undefined
  }

  status(): ScheduleStatus[] {
    const now = this.#o.clock.now()
    return this.#o.schedules.map(({ name, pattern, timezone }) => ({
      name,
      pattern,
      timezone,
      next: nextRun({ name, pattern, timezone }, now)?.toISOString() ?? null,
      lastTried: this.#tried(name)?.toISOString() ?? null,
    }))
  }

  tick(): void {
    if (this.#o.jobs.running) return
    const done = this.#o.doneAt()
    // The repository was not read yet, or does not answer: what is due can wait for it.
    if (!done) return
    const next = this.#next(done)
    if (next) this.#o.jobs.start(verbOf[next.name], next.args, next.by)
  }

  #next(done: DoneAt): Run | undefined {
    if (this.#isHealingDue()) return { name: 'backup', args: [], by: 'gap' }
    if (this.#isFirstDue(done)) return { name: 'backup', args: [], by: 'first' }
    return this.#scheduled(done)
  }

  #scheduled(done: DoneAt): Run | undefined {
    const now = this.#o.clock.now()
    for (const name of order) {
      const schedule = this.#o.schedules.find(one => one.name === name)
      if (!schedule || (name !== 'backup' && !done.anyBackup)) continue
      const known = {
        since: this.#since,
        ...pick('doneAt', done[name]),
        ...pick('triedSlot', this.#tried(name)),
      }
      const due = dueNow(schedule, now, known)
      if (!due) continue
      this.#remember(name, due.slot)
      return { name, args: this.#argumentsFor(name, due.slot), by: 'schedule' }
    }
    return undefined
  }

  #argumentsFor(name: Run['name'], slot: Date): string[] {
    if (name === 'backup') return ['--slot', slot.toISOString()]
    return name === 'verify' ? ['--every-days', String(this.#o.verifyEveryDays)] : []
  }

  #isHealingDue(): boolean {
    const healing = this.#healing
    const nowMs = this.#o.clock.monotonicMs()
    if (!healing || nowMs < healing.nextMs) return false
    healing.nextMs = nowMs + againMs
    this.#o.log.warn({ reason: healing.reason }, 'the log has a hole: a new backup begins a whole chain')
    return true
  }

  #isFirstDue(done: DoneAt): boolean {
    if (done.anyBackup || !this.#o.schedules.some(one => one.name === 'backup' && one.pattern !== ''))
      return false
    const nowMs = this.#o.clock.monotonicMs()
    if (nowMs - this.#startedMs < this.#o.firstAfterMs) return false
    if (this.#firstTriedMs !== undefined && nowMs - this.#firstTriedMs < againMs) return false
    this.#firstTriedMs = nowMs
    return true
  }

  #installedAt(): Date {
    const now = this.#o.clock.now().toISOString()
    this.#state.prepare('INSERT INTO installation VALUES (1, $now) ON CONFLICT DO NOTHING').run({ now })
    return new Date(String(this.#state.prepare('SELECT since FROM installation').get()?.since))
  }

  #tried(name: string): Date | undefined {
    const row = this.#state.prepare('SELECT slot FROM tried WHERE name = $name').get({ name })
    return row ? new Date(String(row.slot)) : undefined
  }

  #remember(name: string, slot: Date): void {
    this.#state
      .prepare('INSERT INTO tried VALUES ($name, $slot) ON CONFLICT (name) DO UPDATE SET slot = $slot')
      .run({ name, slot: slot.toISOString() })
  }
}

function pick<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>)
}
