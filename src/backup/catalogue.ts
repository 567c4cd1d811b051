import type { Log } from '#lib/log.ts'
import { layout } from './layout.ts'
import type { BackupMarker, DrillReport, Pin } from './model.ts'
import { type CheckFound, latestReport, readChecks, readReports, verifiedAt } from './reports.ts'
import type { Repository } from './repository.ts'
import type { DoneAt } from './schedule/scheduler.ts'
import { type BackupSummary, type DrillSummary, summarise } from './status.ts'

/** What a repository holds, as one reading of it found. */
export interface Contents {
  backups: BackupMarker[]
  /** Objects that should tell of a backup, a check or a pin, and cannot be believed. */
  damaged: { object: string; reason: string }[]
  verifies: CheckFound[]
  drills: DrillReport[]
  /** Reasons by backup id. */
  pins: Map<string, string>
  /** RFC 3339 by backup id. */
  verifiedAt: Map<string, string>
}

export async function readContents(repository: Repository): Promise<Contents> {
  const damaged: Contents['damaged'] = []
  const onDamaged = (object: string, error: unknown) => {
    damaged.push({ object, reason: (error as Error).message })
  }
  const backups = await repository.backups({ onDamaged })
  const verifies = await readChecks(repository, onDamaged)
  const drills = await readReports<DrillReport>(repository, 'drill', onDamaged)
  const pins = new Map<string, string>()
  for await (const { key } of repository.storage.list(layout.pins)) {
    const pin = await repository.readSigned<Pin>(key).catch(error => onDamaged(key, error))
    if (pin) pins.set(pin.backupId, pin.reason)
  }
  return { backups, damaged, verifies, drills, pins, verifiedAt: verifiedAt(verifies, drills) }
}

export function summaries(contents: Contents): BackupSummary[] {
  const known = { verifiedAt: contents.verifiedAt, pinned: new Set(contents.pins.keys()) }
  return contents.backups.map(marker => summarise(marker, known)).reverse()
}

export function lastDrill(contents: Contents): DrillSummary | null {
  const drill = latestReport(contents.drills)
  if (!drill) return null
  const { format: _format, repositoryId: _id, kind: _kind, ...facts } = drill
  return facts
}

/** What the scheduler needs to know of what was done. */
export function doneAt(contents: Contents, systemIdentifier: string | undefined): DoneAt {
  const full = contents.backups.findLast(one => one.kind === 'full')
  const verify = latestReport(contents.verifies)
  const drill = latestReport(contents.drills.filter(one => one.ok))
  return {
    ...(full ? { backup: new Date(full.startedAt) } : {}),
    ...(verify ? { verify: new Date(verify.startedAt) } : {}),
    ...(drill ? { drill: new Date(drill.startedAt) } : {}),
    anyBackup: contents.backups.some(
      one =>
        one.database &&
        (systemIdentifier === undefined || one.database.systemIdentifier === systemIdentifier),
    ),
  }
}

/** Reads the contents now and then, and whenever somebody knows that they changed; a store that is away is asked again. */
export class Catalogue {
  readonly #o: { repository: Repository; everyMs: number; log: Log }
  #contents: Contents | undefined
  #reading: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #failed = false

  constructor(options: { repository: Repository; everyMs: number; log: Log }) {
    this.#o = options
  }

  get contents(): Contents | undefined {
    return this.#contents
  }

  start(): void {
    this.#timer = setInterval(() => this.refresh(), this.#o.everyMs)
    this.refresh()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#reading
  }

  /** One reading at a time; a call during one is answered by a reading that begins after it. */
  refresh(): Promise<void> {
    const before = this.#reading ?? Promise.resolve()
    const reading = before
      .then(() => this.#read())
      .finally(() => {
        if (this.#reading === reading) this.#reading = undefined
      })
    this.#reading = reading
    return reading
  }

  async #read(): Promise<void> {
    try {
      this.#contents = await readContents(this.#o.repository)
      this.#failed = false
    } catch (error) {
      if (!this.#failed) this.#o.log.warn({ err: error }, 'the repository cannot be read now')
      this.#failed = true
    }
  }
}
