// Runs the suite: `npm test [-- --long] [-- PATH...]`. Ends with 'N passed, N failed, N skipped'.

import { once } from 'node:events'
import { globSync } from 'node:fs'
import { join, relative } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

// Two cores: more files at once only make each other's deadlines tight.
const filesAtOnce = 2
// The longest honest test takes a tenth of this.
const testWithinMs = { usual: 300_000, long: 3_600_000 }
// Hooks and imports have no deadline of their own: a suite that says nothing for that long hangs.
const silentForMs = { usual: 330_000, long: 3_700_000 }

interface Outcome {
  name: string
  file: string
  reason: string
}

const root = join(import.meta.dirname, '..')
const args = process.argv.slice(2)
const long = args.includes('--long')
const filters = args.filter(argument => !argument.startsWith('--'))
const unknown = args.filter(argument => argument.startsWith('--') && argument !== '--long')

if (unknown.length > 0) {
  process.stderr.write(
    `error: unknown option ${unknown.join(', ')}\nhint: npm test [-- --long] [-- PATH...]\n`,
  )
  process.exit(2)
}

const files = selectFiles()
if (files.length === 0) {
  process.stderr.write(
    `error: no test file matches ${filters.join(', ') || 'src/**/*.test.ts, test/**/*.test.ts'}\n`,
  )
  process.exit(2)
}
process.exitCode = await runFiles(files)

/** Files of test/long only with --long, or when a filter names them. */
function selectFiles(): string[] {
  const all = globSync(['src/**/*.test.ts', 'test/**/*.test.ts'], { cwd: root }).sort()
  const isLong = (file: string) => file.startsWith(join('test', 'long'))
  const named = (file: string) => filters.some(filter => file.includes(relative(root, join(root, filter))))
  const chosen = filters.length > 0 ? all.filter(named) : all.filter(file => isLong(file) === long)
  return chosen.map(file => join(root, file))
}

async function runFiles(paths: string[]): Promise<number> {
  const started = performance.now()
  const kind = long ? 'long' : 'usual'
  const hang = new AbortController()
  // A handle that a test left open must not keep its file from ending.
  const limits = { timeout: testWithinMs[kind], forceExit: true, signal: hang.signal }
  const stream = run({ files: paths, concurrency: filesAtOnce, cwd: root, ...limits })
  const watchdog = setTimeout(() => hang.abort(), silentForMs[kind])
  const failed: Outcome[] = []
  const skipped: Outcome[] = []
  let passed = 0
  stream.on('data', () => watchdog.refresh())
  stream.on('test:pass', event => {
    if (event.details.type === 'suite') return
    if (event.skip !== undefined || event.todo !== undefined)
      skipped.push(outcome(event, event.skip ?? event.todo))
    else passed++
  })
  stream.on('test:fail', event => {
    // A suite fails with its tests, which count already; alone it fails in a hook.
    const { type, error } = event.details
    if (type !== 'suite' || !/subtests? failed/.test(String(error?.message)))
      failed.push(outcome(event, undefined))
  })
  const report = stream.compose(new spec())
  report.pipe(process.stdout, { end: false })
  await once(report, 'end')
  clearTimeout(watchdog)
  return summarise({ passed, failed, skipped, seconds: (performance.now() - started) / 1000 })
}

function outcome(event: { name: string; file?: string }, reason: string | boolean | undefined): Outcome {
  return {
    name: event.name,
    file: relative(root, event.file ?? ''),
    reason: typeof reason === 'string' ? reason : '',
  }
}

function summarise(result: {
  passed: number
  failed: Outcome[]
  skipped: Outcome[]
  seconds: number
}): number {
  const { passed, failed, skipped, seconds } = result
  // CI has every program and privilege: there a skip hides a promise that nobody checked.
  const skipsFail = process.env.MOONYETIS_REQUIRE_ALL === '1' && skipped.length > 0
  const lines = [
    ...(skipsFail
      ? ['skips count as failures (MOONYETIS_REQUIRE_ALL=1):']
      : skipped.length > 0
        ? ['skipped:']
        : []),
    ...skipped.map(({ name, file, reason }) => `  ${file}: ${name}${reason ? ` (${reason})` : ''}`),
    ...(failed.length > 0 ? ['failed:'] : []),
    ...failed.map(({ name, file }) => `  ${file}: ${name}`),
    `took ${seconds.toFixed(1)} s`,
    `${passed} passed, ${failed.length} failed, ${skipped.length} skipped`,
  ]
  process.stdout.write(`\n${lines.join('\n')}\n`)
  return failed.length > 0 || skipsFail ? 1 : 0
}
