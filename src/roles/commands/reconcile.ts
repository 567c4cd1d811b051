import { reconcileVerb } from '#ledger/commands.ts'
import type { AddVerb, Context } from '../program.ts'

export function addReconcile(add: AddVerb): void {
  add(reconcileVerb({ findDatabase: findBooks, recompute: loadRecompute, showProgress: progressLine() }))
}

async function findBooks(context: Context) {
  const { loadSlices } = await import('../config.ts')
  const { postgresServerSlice } = await import('#postgres/server/config.ts')
  const { installationSlice } = await import('../installation-slice.ts')
  const { findDatabase } = await import('../serve/database-target.ts')
  const { values } = loadSlices([postgresServerSlice, installationSlice], context)
  const { topology } = values.postgres
  const { databaseUrl } = values.installation
  if (topology === 'external' && !databaseUrl) {
    const { roleError } = await import('../errors.ts')
    throw roleError('DATABASE_URL_MISSING')
  }
  return findDatabase({
    home: context.openHome(),
    topology,
    ...(databaseUrl ? { databaseUrl } : {}),
    user: 'moonyetis_monitor',
  })
}

async function loadRecompute() {
  const { recompute } = await import('#game/recompute.ts')
  return recompute
}

// One line that is written over; nothing where nobody looks.
function progressLine(): ((line: string) => void) | undefined {
  if (!process.stderr.isTTY) return undefined
  return line => void process.stderr.write(`\r${line.padEnd(60)}${line ? '' : '\r'}`)
}
