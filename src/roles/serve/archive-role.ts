import { pathToFileURL } from 'node:url'
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

/** Who reads over HTTP need not know where on this machine things lie. */
function withoutPlaces(status: BackupStatus, home: Home): BackupStatus {
  const text = JSON.stringify(status)
  const places = [home.root, pathToFileURL(home.root).pathname]
  return JSON.parse(
    places.reduce((left, place) => left.replaceAll(inJson(place), '<home>'), text),
  ) as BackupStatus
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}

function archiveRole(home: Home): ArchiveRole {
  const path = home.socket('archive')
  return {
    status: async () => withoutPlaces(await callControl<BackupStatus>({ path, route: '/status' }), home),
    start: job => callControl<Job>({ path, route: '/jobs', body: job }),
  }
}
