import type { AddVerb } from '../program.ts'

export function addSetup(add: AddVerb): void {
  add({
    name: 'setup',
    summary: 'make the home with its secrets and configuration file, then check the machine',
    examples: ['npx moonyetis setup', 'npx moonyetis setup --home /srv/moonyetis'],
    run: async context => {
      const { setup } = await import('../setup.ts')
      const result = setup(context.openHome())
      const { checks, ok } = await examineHome(context)
      if (context.json) context.print(JSON.stringify({ ...result, checks, ok }))
      else {
        const { checksText } = await import('../doctor.ts')
        context.print(
          result.made.length > 0
            ? `made ${result.made.join(', ')} in ${result.home}`
            : `${result.home} is set up`,
        )
        context.print(checksText(checks))
      }
      return ok ? 0 : 1
    },
  })
}

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
    summary: 'check everything a start needs, each finding with its mend; exit 1 when something is wrong',
    examples: ['npx moonyetis doctor', 'npx moonyetis doctor --json'],
    run: async context => {
      const { checksText } = await import('../doctor.ts')
      const { checks, ok } = await examineHome(context)
      context.print(context.json ? JSON.stringify({ ok, checks }) : checksText(checks))
      return ok ? 0 : 1
    },
  })
}

async function examineHome(context: Parameters<Parameters<AddVerb>[0]['run']>[0]) {
  const { loadSlices } = await import('../config.ts')
  const { httpSlice } = await import('#http/config.ts')
  const { postgresServerSlice } = await import('#postgres/server/config.ts')
  const { examine } = await import('../doctor.ts')
  const { values } = loadSlices([httpSlice, postgresServerSlice], context)
  const { programRoot } = context
  const checks = await examine({
    home: context.openHome(),
    programRoot,
    http: values.http,
    postgres: values.postgres,
  })
  return { checks, ok: checks.every(check => check.ok) }
}
