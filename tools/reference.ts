// Writes docs/reference from the program itself: `npm run docs`. test/reference.test.ts fails when it is out of date.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configPage } from './reference/config.ts'
import { errorsPage } from './reference/errors.ts'
import { httpPage, openApi } from './reference/http.ts'
import { metricsPage } from './reference/metrics.ts'
import { verbsPage } from './reference/verbs.ts'

const root = join(import.meta.dirname, '..')
export const referenceDirectory = join(root, 'docs', 'reference')

/** File names below docs/reference, with their text. */
export async function renderReference(): Promise<Record<string, string>> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  return {
    'cli.md': verbsPage(),
    'config.md': configPage(),
    'errors.md': errorsPage(),
    'http.md': httpPage(await openApi(version)),
    'metrics.md': metricsPage(),
  }
}

if (import.meta.main) {
  mkdirSync(referenceDirectory, { recursive: true })
  for (const [name, text] of Object.entries(await renderReference())) {
    writeFileSync(join(referenceDirectory, name), text)
    process.stdout.write(`docs/reference/${name}\n`)
  }
}
