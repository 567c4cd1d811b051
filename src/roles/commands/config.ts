import type { ConfigEntry } from '#lib/config.ts'
import type { AddVerb } from '../program.ts'

export function addConfig(add: AddVerb): void {
  add({
    name: 'config print',
    summary: 'show every key with its value and where it comes from, secrets masked',
    examples: [
      'npx moonyetis config print',
      'npx moonyetis config print --json',
      'PORT=8080 npx moonyetis config print',
    ],
    run: async context => {
      const { loadSlices, slices } = await import('../config.ts')
      const entries = loadSlices(slices, context).entries.map(masked)
      context.print(context.json ? JSON.stringify(entries) : entries.map(entryLine).join('\n'))
    },
  })
  add({
    name: 'config check',
    summary: 'check the configuration; exit 2 with every problem at once when it is not valid',
    examples: ['npx moonyetis config check', 'npx moonyetis config check --home /srv/moonyetis'],
    run: async context => {
      const { loadSlices, slices } = await import('../config.ts')
      const { entries } = loadSlices(slices, context)
      const set = entries.filter(entry => entry.source !== 'default').length
      const result = { valid: true, keys: entries.length, set }
      context.print(
        context.json
          ? JSON.stringify(result)
          : `the configuration is valid: ${set} of ${entries.length} keys are set`,
      )
    },
  })
}

function masked(entry: ConfigEntry): ConfigEntry {
  return entry.secret && entry.value !== undefined ? { ...entry, value: '********' } : entry
}

function entryLine(entry: ConfigEntry): string {
  const value =
    entry.value === undefined
      ? '(not set)'
      : typeof entry.value === 'string'
        ? entry.value
        : JSON.stringify(entry.value)
  return `${entry.key.padEnd(32)} ${value.padEnd(24)} ${entry.source.padEnd(12)} ${entry.description}`
}
