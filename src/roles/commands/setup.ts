import type { RecoveryKit } from '#backup/keys/setup.ts'
import { commonFailure } from '#lib/errors.ts'
import type { AddVerb, Context } from '../program.ts'
import type { Language } from '../setup/words.ts'
import type { KitOutcome, SetupResult } from '../setup.ts'
import { examineHome } from './home.ts'

export function addSetup(add: AddVerb): void {
  add({
    name: 'setup',
    summary:
      'make the home with its secrets and its recovery kit, which is shown once, then check the machine',
    examples: [
      'npx moonyetis setup',
      'npx moonyetis setup --language es --home /srv/moonyetis',
      'MOONYETIS_BACKUP__PASSPHRASE_FILE=mine.txt npx moonyetis setup --yes',
    ],
    options: [
      ['--language <language>', 'of the recovery kit: en, es or both (default: both)'],
      ['--yes', 'do not ask whether the passphrase was written down'],
      ['--new-kit', 'make another passphrase for a key that is on this machine (simulated chain)'],
    ],
    run: async (context, options) => {
      const languages = await chosenLanguages(options.language)
      const { setup } = await import('../setup.ts')
      const result = setup(context.openHome())
      const outcome = await makeKit(context, options.newKit === true)
      if (outcome.kind === 'made') result.made.push('recovery kit')
      const shown = { result, outcome, languages, ask: options.yes !== true }
      const confirmed = context.json || (await show(context, shown))
      const { checks, ok } = await examineHome(context)
      if (context.json) context.print(JSON.stringify({ ...result, ...kitDocument(outcome), checks, ok }))
      else context.print((await import('../doctor.ts')).checksText(checks))
      return ok && confirmed ? 0 : 1
    },
  })
}

async function chosenLanguages(given: unknown): Promise<Language[]> {
  const { languagesOf } = await import('../setup/words.ts')
  const languages = languagesOf(typeof given === 'string' ? given : 'both')
  if (!languages) throw commonFailure('USAGE', { reason: `--language is en, es or both, not ${given}` })
  return languages
}

async function makeKit(context: Context, anew: boolean): Promise<KitOutcome> {
  const { loadBackupConfig, openRepositoryStorage } = await import('../backup/open.ts')
  const { silentLog } = await import('#lib/log.ts')
  const { ensureRecoveryKit } = await import('../setup.ts')
  const values = loadBackupConfig(context)
  const home = context.openHome()
  const storage = await openRepositoryStorage(values, home, silentLog)
  try {
    const { passphrase } = values.backup
    const given = passphrase === undefined ? {} : { passphrase }
    return await ensureRecoveryKit({ home, storage, chain: values.installation.chain, anew, ...given })
  } finally {
    await storage.close()
  }
}

function kitDocument(outcome: KitOutcome) {
  if (outcome.kind === 'exists') {
    const { fingerprint, mend } = outcome
    return { kit: null, kitExists: { fingerprint, mend } }
  }
  const { passphrase, recipient, fingerprint, signer, text } = outcome.kit
  const kit = { passphrase, recipient, fingerprint, signer, text: { en: text('en'), es: text('es') } }
  return { kit }
}

/** False when the kit was not confirmed as written down. */
async function show(
  context: Context,
  o: { result: SetupResult; outcome: KitOutcome; languages: Language[]; ask: boolean },
): Promise<boolean> {
  const { made, home } = o.result
  context.print(made.length > 0 ? `made ${made.join(', ')} in ${home}` : `${home} is set up`)
  if (o.outcome.kind === 'exists') {
    context.print(
      `the recovery kit of key ${o.outcome.fingerprint} was shown when it was made, and cannot be again`,
    )
    context.print(o.outcome.mend)
    return true
  }
  const { kitPages } = await import('../setup/words.ts')
  context.print(kitPages(o.outcome.kit, o.languages))
  if (!o.ask || !process.stdin.isTTY || !process.stdout.isTTY) return true
  return confirm(context, o.outcome.kit, o.languages)
}

const mostTries = 3

async function confirm(context: Context, kit: RecoveryKit, languages: Language[]): Promise<boolean> {
  const { createInterface } = await import('node:readline/promises')
  const { confirmationQuestion, isLastGroup } = await import('../setup/words.ts')
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  // Ctrl-C and Ctrl-D close it, and a question of a closed terminal is never answered.
  const closed = new Promise<undefined>(done => terminal.once('close', () => done(undefined)))
  try {
    for (let tries = 0; tries < mostTries; tries++) {
      const typed = await Promise.race([terminal.question(confirmationQuestion(languages)), closed])
      if (typed === undefined) break
      if (isLastGroup(typed, kit.passphrase)) return true
    }
  } finally {
    terminal.close()
  }
  context.print(
    'Not confirmed. The kit above is the one in use: write it down now, it cannot be shown again.',
  )
  return false
}
