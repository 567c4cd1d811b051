import { commonFailure } from '#lib/errors.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'
import { type CheckResult, type Recompute, type Reconciliation, reconcile } from './reconcile.ts'

/** What a verb is given; part of the command line's own context. */
export interface LedgerContext {
  json: boolean
  print(line: string): void
}

/** A verb in the form that the command line takes. */
export interface LedgerVerb<Context extends LedgerContext> {
  name: string
  summary: string
  examples: readonly string[]
  options: readonly (readonly [string, string])[]
  run(context: Context, options: Record<string, unknown>): Promise<number>
}

export interface ReconcileVerbOptions<Context extends LedgerContext> {
  /** Where the books are, as a role that may read them. */
  findDatabase(context: Context): Promise<DatabaseTarget>
  recompute(): Promise<Recompute>
  /** Shown while it works, on a terminal only. */
  showProgress?: ((line: string) => void) | undefined
}

/** `reconcile`: exit 1 on any mismatch. */
export function reconcileVerb<Context extends LedgerContext>(
  o: ReconcileVerbOptions<Context>,
): LedgerVerb<Context> {
  return {
    name: 'reconcile',
    summary: 'check the books: sums, balances, rounds, nonces, keys and seeds; exit 1 on any mismatch',
    examples: ['npx moonyetis reconcile', 'npx moonyetis reconcile --deep', 'npx moonyetis reconcile --json'],
    options: [
      ['--deep', 'recompute every round of revealed seeds, however many there are'],
      ['--no-deep', 'recompute none (default: recompute them while they are fewer than 200,000)'],
    ],
    run: async (context, options) => {
      const books = await reconcile({
        target: await o.findDatabase(context),
        recompute: await o.recompute(),
        deep: deepOf(options.deep),
        onProgress: ({ check, done, of }) =>
          o.showProgress?.(of ? `${check}: ${done} of ${of} rounds` : `${check} ...`),
      })
      o.showProgress?.('')
      context.print(context.json ? toJson(books) : toTable(books))
      return books.clean ? 0 : 1
    },
  }
}

function deepOf(option: unknown): boolean | undefined {
  if (option === undefined || typeof option === 'boolean') return option
  throw commonFailure('USAGE', { reason: '--deep takes no value' })
}

/** One document; counts are digit strings, as amounts are. */
function toJson({ clean, takenAt, checks }: Reconciliation): string {
  return JSON.stringify({
    clean,
    takenAt: takenAt.toISOString(),
    checks: checks.map(({ rows, mismatches, tookMs, ...check }) => ({
      ...check,
      rows: String(rows),
      mismatches: String(mismatches),
      tookMs: Math.round(tookMs),
    })),
  })
}

function toTable({ clean, takenAt, checks }: Reconciliation): string {
  const wrong = checks.filter(check => check.mismatches > 0n)
  const lines = [
    `${'check'.padEnd(18)}${'rows'.padStart(14)}${'mismatches'.padStart(12)}`,
    ...checks.map(checkLine),
    ...wrong.map(check => `${check.name}: not so: ${check.promise}`),
    clean
      ? `the books are whole (as of ${takenAt.toISOString()})`
      : `THE BOOKS ARE NOT WHOLE (as of ${takenAt.toISOString()}): ${wrong.map(check => check.name).join(', ')}`,
  ]
  return lines.join('\n')
}

function checkLine({ name, rows, mismatches, examples, skipped }: CheckResult): string {
  const counts = `${name.padEnd(18)}${String(rows).padStart(14)}`
  if (skipped) return `${counts}${'-'.padStart(12)}  left out: ${skipped}`
  const first = examples.length > 0 ? `  first ids: ${examples.join(', ')}` : ''
  return `${counts}${String(mismatches).padStart(12)}${first}`
}
