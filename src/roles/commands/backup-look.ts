import { commonFailure } from '#lib/errors.ts'
import type { AddVerb, Context } from '../program.ts'
import { attached, text, wholeNumber, withBackup } from './backup-verb.ts'

/** backup list, verify, prune, pin, unpin, schedule. */
export function addBackupLook(add: AddVerb): void {
  addList(add)
  addVerify(add)
  addPrune(add)
  addPins(add)
  addSchedule(add)
}

function addList(add: AddVerb): void {
  add({
    name: 'backup list',
    summary: 'list the complete backups of the repository, newest first',
    examples: [
      'npx moonyetis backup list',
      'BACKUP_REPOSITORY=s3://bucket/slots npx moonyetis backup list --json',
    ],
    run: context =>
      withBackup(context, { for: 'read' }, async backup => {
        const { listBackups } = await import('../backup/look.ts')
        const { backupTable } = await import('../backup/words.ts')
        const found = await listBackups(backup)
        if (context.json) context.print(JSON.stringify(found))
        else {
          for (const { object, reason } of found.damaged) context.print(`damaged: ${object}: ${reason}`)
          const none = `There are no complete backups in ${found.repository}: \`npx moonyetis backup full\` takes one.`
          for (const line of found.backups.length > 0 ? backupTable(found.backups) : [none])
            context.print(line)
        }
        return found.damaged.length > 0 ? 1 : 0
      }),
  })
}

function addVerify(add: AddVerb): void {
  add({
    name: 'backup verify',
    summary: 'read the repository again and name every object that is not as it was written; exit 1 if any',
    examples: [
      'npx moonyetis backup verify',
      'npx moonyetis backup verify --open',
      'npx moonyetis backup verify 20261124T020000Z-full-1a2b3c --json',
    ],
    args: [['[id]', 'only this backup and the log that it needs']],
    options: [
      ['--open', 'decrypt everything too, which needs the recovery key for all but the newest backup'],
      ['--every-days <n>', 'read each object once in so many days, new ones at once (default: read all)'],
      attached,
    ],
    run: (context, options, [id]) =>
      withBackup(context, { for: 'read', attached: options.attached === true }, async (backup, signal) => {
        const { verifyRepository } = await import('../backup/look.ts')
        const { verifyText } = await import('../backup/words.ts')
        const { showProgress } = await import('../backup/progress.ts')
        const everyDays = wholeNumber('--every-days', options.everyDays, 1, 365)
        const progress = showProgress<{ phase: string; objects: number; objectsTotal: number }>(
          context,
          p => ({
            phase: p.phase,
            done: p.objects,
            total: p.objectsTotal,
            unit: 'objects',
          }),
        )
        const report = await verifyRepository(backup, {
          ...(id === undefined ? {} : { id }),
          open: options.open === true,
          ...(everyDays === undefined ? {} : { everyDays }),
          signal,
          onProgress: progress.show,
        }).finally(progress.clear)
        const { inventory: _inventory, ...short } = report
        if (context.json) context.print(JSON.stringify({ event: 'done', ...short }))
        else for (const line of verifyText(report)) context.print(line)
        return report.ok ? 0 : 1
      }),
  })
}

function addPrune(add: AddVerb): void {
  add({
    name: 'backup prune',
    summary: 'remove the backups, and the log, that retention does not keep',
    examples: ['npx moonyetis backup prune --dry-run', 'npx moonyetis backup prune'],
    options: [['--dry-run', 'only tell what would be removed, and why'], attached],
    run: (context, options) =>
      withBackup(context, { for: 'write', attached: options.attached === true }, async (backup, signal) => {
        const { planPruning, pruneRepository } = await import('../backup/look.ts')
        const { actor } = await import('../backup/words.ts')
        const plan = await planPruning(backup)
        const { refusals } = plan
        if (options.dryRun) {
          printPlan(context, plan)
          return refusals.length > 0 ? 3 : 0
        }
        if (refusals.length > 0 && plan.remove.length > 0)
          throw commonFailure('REFUSED', { reason: `Nothing was removed: ${refusals.join('; ')}.` })
        if (refusals.length > 0) {
          context.print(
            context.json ? JSON.stringify({ event: 'done', backups: [] }) : 'there is nothing to remove',
          )
          return 0
        }
        const removal = await pruneRepository(backup, plan, { by: actor(), signal, onProgress: undefined })
        if (context.json) context.print(JSON.stringify({ event: 'done', ...removal }))
        else {
          const segments = removal.walRemoved.reduce((sum, one) => sum + one.segments, 0)
          context.print(
            `removed ${removal.backups.length} backups and ${segments} WAL segments, ${Math.round(removal.freedBytes / 1e6)} MB`,
          )
        }
        return 0
      }),
  })
}

function printPlan(context: Context, plan: import('#backup/retention/policy.ts').RetentionPlan): void {
  const short = (list: typeof plan.keep) => list.map(({ backup, why }) => ({ id: backup.id, why }))
  if (context.json) {
    context.print(
      JSON.stringify({ refusals: plan.refusals, keep: short(plan.keep), remove: short(plan.remove) }),
    )
    return
  }
  for (const { id, why } of short(plan.remove)) context.print(`would remove  ${id}: ${why}`)
  for (const { id, why } of short(plan.keep)) context.print(`keeps         ${id}: ${why}`)
  for (const reason of plan.refusals) context.print(`refused: ${reason}`)
}

function addPins(add: AddVerb): void {
  add({
    name: 'backup pin',
    summary: 'keep a backup, and the log it needs, until it is unpinned',
    examples: ['npx moonyetis backup pin 20261124T020000Z-full-1a2b3c --reason "before the new paytable"'],
    args: [['<id>', 'as in backup list']],
    options: [['--reason <text>', 'why it stays']],
    run: (context, options, [id = '']) =>
      withBackup(context, { for: 'write' }, async backup => {
        const { pin } = await import('../backup/look.ts')
        const reason = text('--reason', options.reason, 200) ?? 'no reason given'
        await pin(backup, id, reason)
        context.print(
          context.json ? JSON.stringify({ id, pinned: true, reason }) : `${id} is pinned: ${reason}`,
        )
        return 0
      }),
  })
  add({
    name: 'backup unpin',
    summary: 'let retention decide about a backup again',
    examples: ['npx moonyetis backup unpin 20261124T020000Z-full-1a2b3c'],
    args: [['<id>', 'as in backup list']],
    run: (context, _options, [id = '']) =>
      withBackup(context, { for: 'write' }, async backup => {
        const { unpin } = await import('../backup/look.ts')
        const { actor } = await import('../backup/words.ts')
        await unpin(backup, id, actor())
        context.print(context.json ? JSON.stringify({ id, pinned: false }) : `${id} is not pinned any more`)
        return 0
      }),
  })
}

function addSchedule(add: AddVerb): void {
  add({
    name: 'backup schedule',
    summary: 'show when backups, checks and drills run next; exit 1 when nobody runs them',
    examples: ['npx moonyetis backup schedule', 'npx moonyetis backup schedule --json'],
    run: async context => {
      const { readSchedule } = await import('../backup/schedule.ts')
      const { live, runs } = await readSchedule(context)
      if (context.json) context.print(JSON.stringify({ live, runs }))
      else {
        for (const run of runs)
          context.print(
            `${run.name.padEnd(7)} ${run.pattern || 'never'} (${run.timezone})  next ${run.next ?? 'never'}`,
          )
        context.print(
          live
            ? 'the archive role runs them'
            : 'NOBODY RUNS THEM: the archive role is down; `npm start` or `npx moonyetis archive` starts it',
        )
      }
      return live ? 0 : 1
    },
  })
}
