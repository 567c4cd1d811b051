import type { AddVerb } from '../program.ts'

export function addSupervise(add: AddVerb): void {
  add({
    name: 'supervise',
    summary: 'run the role that owns the embedded PostgreSQL (part of up)',
    examples: ['npx moonyetis supervise', 'MOONYETIS_HOME=/srv/moonyetis npx moonyetis supervise'],
    run: async context => {
      const { loadSlices } = await import('../config.ts')
      const { logSlice } = await import('../log-slice.ts')
      const { postgresServerSlice } = await import('#postgres/server/config.ts')
      const { installationSlice } = await import('../installation-slice.ts')
      const { replicationSlice } = await import('#replication/config.ts')
      const { backupSlice } = await import('#backup/config.ts')
      const slices = [logSlice, postgresServerSlice, installationSlice, replicationSlice, backupSlice]
      const { values } = loadSlices(slices, context)
      if (values.postgres.topology === 'external') {
        const { commonFailure } = await import('#lib/errors.ts')
        throw commonFailure('REFUSED', {
          reason: 'MOONYETIS_TOPOLOGY is external: somebody else runs PostgreSQL.',
        })
      }
      const { supervise } = await import('../supervise.ts')
      await supervise({
        home: context.openHome(),
        programRoot: context.programRoot,
        config: values.postgres,
        replication: values.replication,
        // Two values only: supervise itself knows nothing of backups.
        archive: { walMode: values.backup.walMode, slotKeepMegabytes: values.backup.slotKeepMegabytes },
        logLevel: values.log.level,
        chain: values.installation.chain,
      })
    },
  })
}
