import { statSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { join } from 'node:path'

// Only what any Node that can read this file can also load: the version is checked before the program is imported.
const oldestMajor = 24

if (Number.parseInt(process.versions.node, 10) < oldestMajor) {
  process.stderr.write(`error: MoonYetis needs Node ${oldestMajor} or newer, this is ${process.version}\n`)
  process.stderr.write('hint: use `npm start` or `npx moonyetis`, which bring their own Node\n')
  process.exit(2)
}

// Keeps compiled code in the home, which saves a third of each start; only where the directory is ours to trust.
const runDirectory = join(process.env.MOONYETIS_HOME || join(import.meta.dirname, '..', '.moonyetis'), 'run')
if (statSync(runDirectory, { throwIfNoEntry: false })?.uid === process.geteuid?.()) {
  enableCompileCache(join(runDirectory, 'compile-cache'))
}

const { runProgram } = await import('#roles/program.ts')
const { verbs } = await import('#roles/commands.ts')

const args = process.argv.slice(2)
const stderr = (text: string) => process.stderr.write(text)
// Root only opens the door: the same command then runs as an unprivileged user.
const leaveRoot = process.geteuid?.() === 0 ? (await import('#roles/unprivileged.ts')).leaveRoot : undefined

const exit = await runProgram({
  args,
  env: process.env,
  addVerbs: verbs,
  ...(leaveRoot && {
    beforeVerb: context => leaveRoot({ ...context, args, say: line => stderr(`${line}\n`) }),
  }),
  stdout: text => process.stdout.write(text),
  stderr,
})
// What was written to a pipe may still be on its way.
await Promise.all([process.stdout, process.stderr].map(stream => new Promise(done => stream.write('', done))))
process.exit(exit)
