import type { BackupProgress } from '#backup/base/progress.ts'
import type { BackupKind } from '#backup/model.ts'
import { commonFailure } from '#lib/errors.ts'
import type { AddVerb, Context } from '../program.ts'
import { attached, text, withBackup } from './backup-verb.ts'

const summaries: Record<BackupKind, string> = {
  full: 'take a backup of the database and of the files (.secure, .ssl, .secrets, configuration)',
  db: 'take a backup of the database alone',
  files: 'take a backup of the files alone (.secure, .ssl, .secrets, configuration)',
}

/** backup full, db and files. */
export function addBackupTake(add: AddVerb): void {
  for (const kind of ['full', 'db', 'files'] as const) {
    add({
      name: `backup ${kind}`,
      summary: summaries[kind],
      examples: [
        `npx moonyetis backup ${kind}`,
        `npx moonyetis backup ${kind} --label "before the upgrade" --json`,
      ],
      options: [
        ['--label <text>', 'what it is for'],
        [
          '--slot <time>',
          'the moment of the schedule that it is for: one that began since then makes it needless',
        ],
        attached,
      ],
      run: (context, options) => run(context, kind, options),
    })
  }
}

async function run(context: Context, kind: BackupKind, options: Record<string, unknown>): Promise<number> {
  const label = text('--label', options.label, 100)
  const dueAt = slotOf(options.slot)
  return withBackup(
    context,
    { for: 'write', attached: options.attached === true },
    async (backup, signal) => {
      const { takeBackup } = await import('../backup/take.ts')
      const { megabytes, showProgress } = await import('../backup/progress.ts')
      const progress = showProgress<BackupProgress>(context, p => ({
        phase: p.phase,
        done: p.bytesDone,
        total: p.bytesTotal ?? 0,
        unit: 'bytes',
        ...(p.bytesPerSecond === undefined ? {} : { perSecond: p.bytesPerSecond }),
        ...(p.etaSeconds === undefined ? {} : { etaSeconds: p.etaSeconds }),
      }))
      const { outcome, marker } = await takeBackup(backup, {
        kind,
        ...(label === undefined ? {} : { label }),
        ...(dueAt === undefined ? {} : { dueAt }),
        version: context.version,
        signal,
        onProgress: progress.show,
      }).finally(progress.clear)
      const { id, rawBytes, storedBytes, startedAt, finishedAt } = marker
      if (context.json) {
        context.print(
          JSON.stringify({ event: 'done', outcome, id, kind, rawBytes, storedBytes, startedAt, finishedAt }),
        )
        return 0
      }
      if (outcome === 'skipped') context.print(`${id} is there already; nothing was done`)
      else {
        const seconds = ((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000).toFixed(1)
        context.print(
          `${id}: ${megabytes(rawBytes)} MB in ${seconds} s, ${megabytes(storedBytes)} MB in ${backup.repository.storage.description}`,
        )
        context.print('prove it: `npx moonyetis backup drill`')
      }
      return 0
    },
  )
}

function slotOf(given: unknown): Date | undefined {
  if (given === undefined) return undefined
  const time = new Date(String(given))
  if (Number.isFinite(time.getTime())) return time
  throw commonFailure('USAGE', { reason: '--slot must be a time such as 2026-11-24T02:00:00Z' })
}
