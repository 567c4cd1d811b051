import { userInfo } from 'node:os'
import type { VerifyReport } from '#backup/model.ts'
import type { BackupSummary, DrillSummary } from '#backup/status.ts'
import { duration, megabytes } from './progress.ts'

/** Who sits at this machine, for journals and reports. */
export function actor(): string {
  try {
    return `cli:${userInfo().username}`
  } catch {
    // A uid without an entry in the password database.
    return `cli:uid ${process.getuid?.()}`
  }
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map(row => row[i]?.length ?? 0)))
  return rows.map(row =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

export function backupTable(backups: readonly BackupSummary[]): string[] {
  const rows = backups.map(one => [
    one.id,
    one.kind,
    minute(one.finishedAt),
    `${megabytes(one.rawBytes)} MB`,
    `${megabytes(one.storedBytes)} MB`,
    one.verifiedAt ? minute(one.verifiedAt) : 'no',
    [one.pinned ? 'pinned' : '', one.label ?? ''].filter(text => text !== '').join(', '),
  ])
  return table([['ID', 'KIND', 'FINISHED', 'SIZE', 'STORED', 'VERIFIED', 'NOTE'], ...rows])
}

function minute(time: string): string {
  return `${time.slice(0, 16).replace('T', ' ')}Z`
}

export function verifyText(report: VerifyReport): string[] {
  const { faults, objects, readBytes, wholeBackups, walThrough, mode } = report
  const seconds = (Date.parse(report.finishedAt) - Date.parse(report.startedAt)) / 1000
  const read = `read ${counted(objects, 'object')}, ${megabytes(readBytes)} MB, in ${duration(seconds)} (${mode})`
  const reach = walThrough.map(
    one => `the log of ${one.systemIdentifier} goes to ${one.end} on timeline ${one.timeline} without a hole`,
  )
  if (faults.length === 0) return [read, ...reach, `whole: ${counted(wholeBackups.length, 'backup')}`]
  const list = faults.map(fault => `${fault.problem.padEnd(8)} ${fault.object}: ${fault.reason}`)
  return [read, ...reach, ...list, `THE REPOSITORY IS NOT WHOLE: ${counted(faults.length, 'object')}`]
}

export function drillText(drill: DrillSummary): string[] {
  const steps = drill.steps.map(
    step =>
      `${step.ok ? 'ok  ' : 'FAIL'} ${step.name.padEnd(14)} ${step.seconds.toFixed(1).padStart(7)} s  ${step.detail}`,
  )
  const rpo = drill.rpoSeconds === undefined ? 'not measured' : `${drill.rpoSeconds.toFixed(1)} s`
  return [
    ...steps,
    `backup ${drill.backupId}: recovery time ${drill.rtoSeconds.toFixed(1)} s, recovery point ${rpo}, ${drill.megabytesPerSecond.toFixed(0)} MB/s`,
    drill.ok ? 'the drill is passed' : 'THE DRILL IS FAILED',
  ]
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
