import { commonFailure } from '#lib/errors.ts'
import type { Check } from '../doctor/check.ts'
import type { AddVerb, Context } from '../program.ts'

export function addStatus(add: AddVerb): void {
  add({
    name: 'status',
    summary: 'show what runs on this home; exit 1 unless it is ready',
    examples: ['npx moonyetis status', 'npx moonyetis status --json'],
    run: async context => {
      const { readStatus, statusText } = await import('../status.ts')
      const status = await readStatus(context.openHome())
      context.print(context.json ? JSON.stringify(status) : statusText(status))
      return status.ready ? 0 : 1
    },
  })
}

export function addDoctor(add: AddVerb): void {
  add({
    name: 'doctor',
    summary: 'check everything a start and a restore need, each finding with its mend; exit 1 on any',
    examples: [
      'npx moonyetis doctor',
      'npx moonyetis doctor --json',
      'npx moonyetis doctor --bundle --out /tmp/support.tar.gz',
    ],
    options: [
      ['--bundle', 'also write what support needs into one file, without any secret'],
      ['--out <file>', 'where the bundle goes (default: a new file in the home)'],
    ],
    run: async (context, options) => {
      if (options.out !== undefined && options.bundle !== true)
        throw commonFailure('USAGE', { reason: '--out tells where --bundle goes' })
      const { checksText } = await import('../doctor.ts')
      const { checks, ok } = await examineHome(context)
      if (!context.json) context.print(checksText(checks))
      const bundle = options.bundle ? await writeBundle(context, checks, options.out) : undefined
      if (context.json) context.print(JSON.stringify({ ok, checks, ...(bundle ? { bundle } : {}) }))
      else if (bundle) context.print(`wrote ${bundle.file}; look through it before you send it`)
      return ok ? 0 : 1
    },
  })
}

async function writeBundle(context: Context, checks: readonly Check[], out: unknown) {
  const { writeSupportBundle } = await import('../doctor/bundle.ts')
  return writeSupportBundle(context, checks, typeof out === 'string' ? { out } : {})
}

export async function examineHome(context: Context): Promise<{ checks: Check[]; ok: boolean }> {
  const { loadSlices } = await import('../config.ts')
  const { httpSlice } = await import('#http/config.ts')
  const { loadBackupConfig } = await import('../backup/open.ts')
  const { examine } = await import('../doctor.ts')
  const { http } = loadSlices([httpSlice], context).values
  const backup = loadBackupConfig(context)
  const { programRoot } = context
  const home = context.openHome()
  const checks = await examine({ home, programRoot, http, postgres: backup.postgres, backup })
  return { checks, ok: checks.every(check => check.ok) }
}
