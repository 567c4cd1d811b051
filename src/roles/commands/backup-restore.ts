import { resolve } from 'node:path'
import type { DrillProgress } from '#backup/drill/drill.ts'
import type { RestorePreview } from '#backup/restore/preview.ts'
import type { RestoreProgress, RestoreResult } from '#backup/restore/restore.ts'
import { commonFailure } from '#lib/errors.ts'
import type { OpenBackup } from '../backup/open.ts'
import type { AddVerb, Context } from '../program.ts'
import { attached, text, wholeNumber, withBackup } from './backup-verb.ts'

/** backup restore and drill. */
export function addBackupRestore(add: AddVerb): void {
  addRestore(add)
  addDrill(add)
}

function addRestore(add: AddVerb): void {
  add({
    name: 'backup restore',
    summary: 'restore into an empty directory, which becomes a home that npm start can run',
    examples: [
      'npx moonyetis backup restore --to /srv/restored --dry-run',
      'npx moonyetis backup restore --to /srv/restored --latest',
      'npx moonyetis backup restore --to /srv/restored --time "2026-11-24 14:30" --start',
      'BACKUP_REPOSITORY=s3://bucket/slots npx moonyetis backup restore --to /srv/restored',
    ],
    options: [
      ['--to <dir>', 'the directory; absent or empty'],
      ['--latest', 'everything that was stored (the default)'],
      [
        '--time <time>',
        'what was committed at or before: 2026-11-24T14:30:00Z, or in the time zone of the schedules',
      ],
      ['--lsn <lsn>', 'up to this position of the log, such as 0/5B000028'],
      ['--name <name>', 'up to a restore point'],
      ['--id <id>', 'begin with this backup instead of the newest before the target'],
      ['--timeline <n>', 'along this timeline, also one that an earlier restore has left behind'],
      ['--files-only', 'only secrets, certificates and configuration'],
      ['--dry-run', 'only tell what would be restored'],
      ['--start', 'start the restored home and stay with it, as npm start does'],
    ],
    run: async (context, options) => {
      const code = await restoreVerb(context, options)
      return code === 0 && options.start && !options.dryRun
        ? startRestored(context, String(options.to))
        : code
    },
  })
}

async function restoreVerb(context: Context, options: Record<string, unknown>): Promise<number> {
  const to = text('--to', options.to, 4000)
  if (to === undefined) throw commonFailure('USAGE', { reason: '--to is missing: give an empty directory' })
  const directory = resolve(to)
  const { parseRequest } = await import('#backup/restore/target.ts')
  const { loadBackupConfig } = await import('../backup/open.ts')
  const timeline = wholeNumber('--timeline', options.timeline, 1, 999_999_999)
  const request = parseRequest({ ...options, timeline }, loadBackupConfig(context).backup.timezone)
  return withKeys(context, async (backup, signal) => {
    const work = await import('../backup/restore.ts')
    if (options.dryRun) {
      const preview = await work.preview(backup, { request, directory })
      for (const line of context.json ? [JSON.stringify(preview)] : previewText(preview)) context.print(line)
      return 0
    }
    const { showProgress } = await import('../backup/progress.ts')
    const progress = showProgress<RestoreProgress>(context, barOf)
    const result = await work
      .restoreBackup(context, backup, {
        request,
        directory,
        filesOnly: options.filesOnly === true,
        signal,
        onProgress: progress.show,
      })
      .finally(progress.clear)
    if (context.json) context.print(JSON.stringify({ event: 'done', ...result }))
    else for (const line of resultText(result)) context.print(line)
    return 0
  })
}

/** Asks for the recovery passphrase on a terminal when what is here opens nothing. */
async function withKeys(
  context: Context,
  work: (backup: OpenBackup, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  try {
    return await withBackup(context, { for: 'read' }, work)
  } catch (error) {
    const { code } = error as { code?: string }
    if (code !== 'BACKUP_KEY_NEEDED' || !process.stdin.isTTY || context.json) throw error
    const { askPassphrase } = await import('../backup/passphrase.ts')
    const passphrase = await askPassphrase()
    return withBackup(context, { for: 'read', passphrase }, work)
  }
}

function barOf(p: RestoreProgress) {
  const replaying = p.segmentsDone !== undefined
  return {
    phase: p.phase,
    done: (replaying ? p.segmentsDone : p.bytesDone) ?? 0,
    total: (replaying ? p.segmentsTotal : p.bytesTotal) ?? 0,
    unit: replaying ? 'segments' : 'bytes',
  }
}

function previewText(p: RestorePreview): string[] {
  const mb = (bytes: number) => `${Math.round(bytes / 1e6)} MB`
  return [
    `target       ${p.target}`,
    `backup       ${p.backup.id} (${p.backup.kind}), consistent at ${p.backup.consistentAt}, ${mb(p.bytes)}`,
    `log          ${p.wal.segments} segments, from ${p.wal.from} to ${p.wal.to}, timelines ${p.timelines.join(', ')}`,
    `last commit  ${p.lastCommitAt ?? 'not known without the key'}`,
    ...(p.hole ? [`HOLE         the log is missing from ${p.hole.from} to ${p.hole.to}`] : []),
    `files        ${p.files ? `${p.files.count} files of ${p.files.backupId}` : 'none: no backup holds any'}`,
    `space        ${mb(p.neededBytes)} needed, ${mb(p.freeBytes)} free`,
    `keys         ${p.keysHere ? 'here' : 'NOT HERE: the recovery key is needed'}`,
    'nothing was written',
  ]
}

function resultText(r: RestoreResult): string[] {
  const replayed = r.replayedTo ? `, ${r.segments} segments replayed to ${r.replayedTo}` : ''
  const commit = r.lastCommitAt ? `last commit ${r.lastCommitAt}` : ''
  const what = r.target === 'files' ? `${r.files?.count ?? 0} files` : `${Math.round(r.bytes / 1e6)} MB`
  return [
    `restored ${r.backupId} to ${r.directory} in ${r.seconds.toFixed(1)} s: ${what}${replayed}`,
    ...(commit ? [commit] : []),
    ...r.nextSteps,
  ]
}

async function startRestored(context: Context, to: string): Promise<number> {
  const { spawn } = await import('node:child_process')
  const { once } = await import('node:events')
  const script = process.argv[1] as string
  const env = { ...context.env, MOONYETIS_HOME: resolve(to) }
  const child = spawn(
    process.execPath,
    [...process.execArgv, script, 'up', ...(context.json ? ['--json'] : [])],
    {
      env,
      stdio: 'inherit',
    },
  )
  // The terminal tells both of us; the child decides how long its orderly stop takes.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  const [code] = await once(child, 'exit')
  return (code as number | null) ?? 1
}

function addDrill(add: AddVerb): void {
  add({
    name: 'backup drill',
    summary:
      'prove a backup: restore it into a scratch instance, replay, check the books, and report; exit 1 if it fails',
    examples: [
      'npx moonyetis backup drill',
      'npx moonyetis backup drill --id 20261124T020000Z-full-1a2b3c --json',
    ],
    options: [['--id <id>', 'this backup instead of the newest'], attached],
    run: (context, options) =>
      // Read, since that takes the recovery key of the configuration: drills of older backups need it.
      withBackup(context, { for: 'read', attached: options.attached === true }, async (backup, signal) => {
        const { drillBackup } = await import('../backup/restore.ts')
        const { drillText } = await import('../backup/words.ts')
        const { showProgress } = await import('../backup/progress.ts')
        const id = text('--id', options.id, 100)
        const progress = showProgress<DrillProgress>(context, p => ({
          ...barOf({ ...p, phase: 'lay' }),
          phase: p.step,
        }))
        const report = await drillBackup(context, backup, {
          ...(id === undefined ? {} : { id }),
          signal,
          onProgress: progress.show,
        }).finally(progress.clear)
        if (context.json) context.print(JSON.stringify({ event: 'done', ...report }))
        else for (const line of drillText(report)) context.print(line)
        return report.ok ? 0 : 1
      }),
  })
}
