import { join } from 'node:path'
import type { AddVerb } from '../program.ts'

export function addUp(add: AddVerb): void {
  add({
    name: 'up',
    summary: 'start everything on this machine and watch it until Ctrl-C',
    examples: ['npm start', 'PORT=8080 npx moonyetis up', 'npx moonyetis up --json --home /srv/moonyetis'],
    run: async context => {
      const { loadSlices } = await import('../config.ts')
      const { logSlice } = await import('../log-slice.ts')
      const { installationSlice } = await import('../installation-slice.ts')
      const { httpSlice } = await import('#http/config.ts')
      const { postgresServerSlice } = await import('#postgres/server/config.ts')
      const { values } = loadSlices([logSlice, installationSlice, httpSlice, postgresServerSlice], context)
      const { log, installation, http, postgres } = values
      // Before anything is made: a database remembers for ever which chain it was born on.
      const { refuseHalfRestored, refuseUnsafeInstallation } = await import('../safety.ts')
      refuseHalfRestored(context.homeRoot)
      refuseUnsafeInstallation(installation, http)
      const home = context.openHome()
      if (installation.chain === 'mainnet') (await import('../setup.ts')).requireRecoveryKey(home)
      if (postgres.topology === 'external' && !installation.databaseUrl) {
        const { roleError } = await import('../errors.ts')
        throw roleError('DATABASE_URL_MISSING')
      }
      const { up } = await import('../up.ts')
      await up({
        home,
        programRoot: context.programRoot,
        command: [process.execPath, ...process.execArgv, join(context.programRoot, 'src', 'main.ts')],
        env: context.env,
        http,
        postgres,
        logLevel: log.level,
        print: context.print,
        json: context.json,
        console: process.stdout,
      })
    },
  })
}

export function addDown(add: AddVerb): void {
  add({
    name: 'down',
    summary: 'stop everything that runs on this home, orphans of a crash too',
    examples: ['npx moonyetis down', 'npx moonyetis down --json'],
    run: async context => {
      const { loadSlices } = await import('../config.ts')
      const { postgresServerSlice } = await import('#postgres/server/config.ts')
      const { values } = loadSlices([postgresServerSlice], context)
      const { down } = await import('../down.ts')
      const { loadBackupConfig, scratchDirectory } = await import('../backup/open.ts')
      const home = context.openHome()
      const result = await down(home, {
        scratch: scratchDirectory(loadBackupConfig(context), home),
        stopWithinMs: values.postgres.stopWithinSeconds * 1000,
      })
      const text = result.stopped.length > 0 ? `stopped ${result.stopped.join(', ')}` : 'nothing was running'
      context.print(context.json ? JSON.stringify(result) : text)
    },
  })
}

export function addServe(add: AddVerb): void {
  add({
    name: 'serve',
    summary: 'run the role that answers HTTP (part of up)',
    examples: [
      'npx moonyetis serve',
      'MOONYETIS_TOPOLOGY=external DATABASE_URL=postgres://... npx moonyetis serve',
    ],
    run: async context => {
      const { serve } = await import('#roles/serve.ts')
      await serve(context)
    },
  })
}
