import type { FastifyRequest } from 'fastify'
import type { Journal } from '#audit/journal.ts'
import type { Job } from '#backup/jobs/jobs.ts'
import type { ArchiveRole, BackupRoutes } from '#backup/routes.ts'
import type { BackupStatus } from '#backup/status.ts'
import type { Doors } from '#identity/doors.ts'
import { callControl } from '#lib/control.ts'
import type { Home } from '#lib/home.ts'

/** What the backup routes need, over the socket of the archive role. */
export function backupDoor(o: {
  home: Home
  doors: Doors
  journal: Journal
  mayRead: (request: FastifyRequest) => boolean
}): BackupRoutes {
  return {
    archive: archiveRole(o.home),
    mayRead: o.mayRead,
    operator: request => `operator:${o.doors.requireOperator(request, 'operator').id}`,
    record: event => void o.journal.record(event),
  }
}

/** The archive's own metrics; nothing while it does not run, which `up` of its absence tells. */
export async function archiveMetricsText(home: Home): Promise<string> {
  const path = home.socket('archive')
  const answer = callControl<{ text: string }>({ path, route: '/metrics', timeoutMs: 1_000 })
  return answer.then(({ text }) => text).catch(() => '')
}

function archiveRole(home: Home): ArchiveRole {
  const path = home.socket('archive')
  return {
    status: () => callControl<BackupStatus>({ path, route: '/status' }),
    start: job => callControl<Job>({ path, route: '/jobs', body: job }),
  }
}
