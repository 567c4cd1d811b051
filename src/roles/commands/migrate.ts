import type { AddVerb } from '../program.ts'

export function addMigrate(add: AddVerb): void {
  add({
    name: 'migrate',
    summary: 'bring the database schema up to date (supervise does so at each start)',
    examples: [
      'npx moonyetis migrate',
      'MOONYETIS_TOPOLOGY=external DATABASE_URL=postgres://owner@db/moonyetis_slots npx moonyetis migrate',
    ],
    run: async context => {
      const { loadSlices } = await import('../config.ts')
      const { postgresServerSlice } = await import('#postgres/server/config.ts')
      const { installationSlice } = await import('../installation-slice.ts')
      const { silentLog } = await import('#lib/log.ts')
      const { migrateNow } = await import('../migrate.ts')
      const { values } = loadSlices([postgresServerSlice, installationSlice], context)
      const external = values.postgres.topology === 'external'
      const { databaseUrl, chain } = values.installation
      if (external && !databaseUrl) {
        const { roleError } = await import('../errors.ts')
        throw roleError('DATABASE_URL_MISSING')
      }
      const { programRoot } = context
      const result = await migrateNow({
        home: context.openHome(),
        programRoot,
        databaseUrl: external ? databaseUrl : undefined,
        chain,
        log: silentLog,
      })
      const text = `applied ${result.applied.length} migrations, the schema is at version ${result.version}`
      context.print(context.json ? JSON.stringify(result) : text)
    },
  })
}
