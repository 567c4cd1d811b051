import type { Metrics } from '#lib/metrics.ts'
import type { Job } from './jobs/jobs.ts'
import type { BackupStatus } from './status.ts'

/** Told by the archive role; ages are NaN until there is something to be as old as that. */
export function backupMetrics(metrics: Metrics) {
  const jobs = metrics.counter({
    name: 'moonyetis_backup_jobs_total',
    help: 'Backups, drills, checks and prunings that ended, by kind and outcome.',
    labels: ['kind', 'state'],
  })
  const gauge = (name: string, help: string, collect: () => number) =>
    metrics.gauge({ name: `moonyetis_backup_${name}`, help, collect })
  return {
    ended: ({ kind, state }: Pick<Job, 'kind' | 'state'>) => jobs.labels({ kind, state }).inc(),
    watch: (look: () => Facts, now: () => Date): void => {
      const age = (time: string | undefined) =>
        time === undefined ? Number.NaN : Math.max(0, (now().getTime() - Date.parse(time)) / 1000)
      gauge('age_seconds', 'Since the newest complete backup ended.', () =>
        age(look().lastBackup?.finishedAt),
      )
      gauge(
        'verified_age_seconds',
        'Since the newest backup that a check or a drill found whole ended.',
        () => age(look().lastVerified?.finishedAt),
      )
      gauge(
        'stored_bytes',
        'Size of the newest backup in the repository.',
        () => look().lastBackup?.storedBytes ?? Number.NaN,
      )
      gauge('canary_age_seconds', 'Since the last canary row was written.', () =>
        age(look().canary.writtenAt ?? undefined),
      )
      gauge('drill_age_seconds', 'Since the last restore drill ended.', () =>
        age(look().lastDrill?.finishedAt),
      )
      gauge('drill_passed', '1 when the last restore drill passed, 0 when it failed.', () => {
        const { lastDrill } = look()
        return lastDrill ? Number(lastDrill.ok) : Number.NaN
      })
      gauge(
        'drill_recovery_time_seconds',
        'Until the restored server of the last drill answered.',
        () => look().lastDrill?.rtoSeconds ?? Number.NaN,
      )
      gauge(
        'drill_recovery_point_seconds',
        'Age of the newest row that came back in the last drill.',
        () => look().lastDrill?.rpoSeconds ?? Number.NaN,
      )
    },
  }
}

type Facts = Pick<BackupStatus, 'lastBackup' | 'lastVerified' | 'lastDrill' | 'canary'>
