import { timelineText } from '#lib/lsn.ts'

/** Where things are in a repository. docs/backup-format.md names each of them. */
export const layout = {
  repository: 'repository.json',
  identities: 'identity/',
  identity: (fingerprint: string) => `identity/${fingerprint}.age`,
  dataKeys: 'keys/',
  dataKey: (id: string, recipient: string) => `keys/${id}/${recipient}.age`,
  clusters: 'wal/',
  cluster: (system: string) => `wal/${system}/`,
  timeline: (system: string, timeline: number) => `wal/${system}/${timelineText(timeline)}/`,
  segment: (system: string, segment: string) =>
    `wal/${system}/${segment.slice(0, 8)}/${segment.slice(0, 16)}/${segment}`,
  histories: (system: string) => `wal/${system}/history/`,
  history: (system: string, timeline: number) => `wal/${system}/history/${timelineText(timeline)}`,
  allTails: 'tail/',
  tails: (system: string, segment?: string) => (segment ? `tail/${system}/${segment}/` : `tail/${system}/`),
  /** Offsets in the segment, 8 hexadecimal digits each, so that a listing is in order. */
  tail: (system: string, segment: string, from: number, to: number) =>
    `tail/${system}/${segment}/${hex8(from)}-${hex8(to)}`,
  backups: 'backups/',
  backup: (id: string) => `backups/${id}/`,
  pack: (id: string, archive: string, number: number) =>
    `backups/${id}/${archive}/${String(number).padStart(6, '0')}`,
  manifest: (id: string) => `backups/${id}/manifest`,
  files: (id: string) => `backups/${id}/files`,
  complete: (id: string) => `backups/${id}/COMPLETE`,
  points: 'points/',
  point: (name: string) => `points/${name}`,
  pins: 'pins/',
  pin: (backupId: string) => `pins/${backupId}`,
  locks: (name: string) => `locks/${name}/`,
  lock: (name: string, epoch: number) => `locks/${name}/${String(epoch).padStart(12, '0')}`,
  readers: 'readers/',
  reader: (id: string) => `readers/${id}`,
  allReports: 'reports/',
  reports: (kind: ReportKind) => `reports/${kind}/`,
  report: (kind: ReportKind, id: string) => `reports/${kind}/${id}`,
} as const

export type ReportKind = 'drill' | 'verify' | 'removal'

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0')
}

/** `20261124T143000Z-full-1a2b3c`: sorts by time and is readable. */
export function backupId(kind: string, at: Date, random: string): string {
  const time = at.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '')
  return `${time}-${kind}-${random}`
}

/** When the backup or the report of that id began, in milliseconds; undefined for a name that is none. */
export function idTime(id: string): number | undefined {
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-/.exec(id) ?? []
  const [year, month, day, hour, minute, second] = parts
  const at = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  return Number.isNaN(at) ? undefined : at
}
