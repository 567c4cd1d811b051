import type { AddVerb } from '../program.ts'
import { withBackup } from './backup-verb.ts'

/** restore-point and backup export-sql. */
export function addBackupMore(add: AddVerb): void {
  addRestorePoint(add)
  addExport(add)
}

function addRestorePoint(add: AddVerb): void {
  add({
    name: 'restore-point',
    summary: 'name this moment, so that a restore can go exactly here',
    examples: ['npx moonyetis restore-point before-the-new-paytable'],
    args: [['<name>', 'letters, digits, dots, underscores and dashes; used once']],
    run: (context, _options, [name = '']) =>
      withBackup(context, { for: 'write' }, async ({ home, values, repository }) => {
        const { createRestorePoint } = await import('#backup/restore-point.ts')
        const { systemClock } = await import('#lib/clock.ts')
        const { sqlTarget } = await import('../backup/connect.ts')
        const target = await sqlTarget(home, values)
        const point = await createRestorePoint({ target, repository, name, clock: systemClock })
        const text = `${name} is ${point.lsn} on timeline ${point.timeline}: \`moonyetis backup restore --to DIR --name ${name}\``
        context.print(context.json ? JSON.stringify(point) : text)
        return 0
      }),
  })
}

function addExport(add: AddVerb): void {
  add({
    name: 'backup export-sql',
    summary: 'write the database as gzipped SQL text that psql reads without us; needs pg_dump',
    examples: ['npx moonyetis backup export-sql', 'npx moonyetis backup export-sql --out /srv/dump.sql.gz'],
    options: [['--out <file>', 'where to (default: db-backup-YYYY-MM-DD.sql.gz in the backups of the home)']],
    run: async (context, options) => {
      const { exportSql } = await import('#backup/export/export-sql.ts')
      const { pgDumpDirectories } = await import('#backup/export/pg-dump.ts')
      const { systemClock } = await import('#lib/clock.ts')
      const { ownerTarget } = await import('../backup/connect.ts')
      const { loadBackupConfig } = await import('../backup/open.ts')
      const { abortSignal, megabytes, showProgress } = await import('../backup/progress.ts')
      const values = loadBackupConfig(context)
      const home = context.openHome()
      using signal = abortSignal({ attached: false })
      const progress = showProgress<{ bytesDone: number }>(context, ({ bytesDone }) => ({
        phase: 'exporting',
        done: bytesDone,
        total: 0,
        unit: 'bytes',
      }))
      const out = typeof options.out === 'string' ? options.out : undefined
      const done = await exportSql({
        target: await ownerTarget(home, values),
        candidates: pgDumpDirectories({ bin: values.postgres.bin, path: context.env.PATH }),
        out,
        directory: home.backups,
        clock: systemClock,
        onProgress: progress.show,
        signal,
      }).finally(progress.clear)
      const text = `wrote ${done.path}, ${megabytes(done.rawBytes)} MB of SQL, with pg_dump ${done.toolVersion}`
      context.print(context.json ? JSON.stringify({ event: 'done', ...done }) : text)
    },
  })
}
