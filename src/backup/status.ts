import type { Job } from './jobs/jobs.ts'
import type { BackupKind, BackupMarker, DrillReport } from './model.ts'

/** The answer of GET /status on run/archive.sock and of GET /api/monitoring/backups. LSNs are text, times RFC 3339. */
export interface BackupStatus<Archiver extends object = object> {
  repository: string
  walMode: 'async' | 'sync'
  archiver: Archiver
  canary: CanaryStatus
  schedule: ScheduleStatus[]
  running: Job | null
  /** Newest first, the last few. */
  jobs: Job[]
  backups: BackupSummary[]
  lastBackup: BackupSummary | null
  /** The newest one that a check or a drill found whole. */
  lastVerified: BackupSummary | null
  lastDrill: DrillSummary | null
}

export interface CanaryStatus {
  sequence: string | null
  writtenAt: string | null
  lsn: string | null
  lastError: string | null
}

export interface ScheduleStatus {
  name: string
  pattern: string
  timezone: string
  next: string | null
  lastTried: string | null
}

export interface BackupSummary {
  id: string
  kind: BackupKind
  label: string | null
  startedAt: string
  finishedAt: string
  rawBytes: number
  storedBytes: number
  verifiedAt: string | null
  pinned: boolean
  database: {
    systemIdentifier: string
    timeline: number
    start: string
    stop: string
    stopTime: string
  } | null
}

export type DrillSummary = Omit<DrillReport, 'format' | 'repositoryId' | 'kind'>

export function summarise(
  marker: BackupMarker,
  known: { verifiedAt: ReadonlyMap<string, string>; pinned: ReadonlySet<string> },
): BackupSummary {
  const { id, kind, label, startedAt, finishedAt, rawBytes, storedBytes, database } = marker
  return {
    id,
    kind,
    label: label ?? null,
    startedAt,
    finishedAt,
    rawBytes,
    storedBytes,
    verifiedAt: known.verifiedAt.get(id) ?? null,
    pinned: known.pinned.has(id),
    database: database
      ? {
          systemIdentifier: database.systemIdentifier,
          timeline: database.timeline,
          start: database.start,
          stop: database.stop,
          stopTime: database.stopTime,
        }
      : null,
  }
}
