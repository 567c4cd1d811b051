import { readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, CommanderError } from 'commander'
import { commonFailure, Failure } from '#lib/errors.ts'
import { type Home, openHome } from '#lib/home.ts'
import { roleError } from './errors.ts'

/** What every verb is given. */
export interface Context {
  /** Directory of package.json. */
  programRoot: string
  version: string
  /** Absolute; the home may not exist yet. */
  homeRoot: string
  /** Opens the home, making what is missing. */
  openHome(): Home
  env: NodeJS.ProcessEnv
  json: boolean
  /** Writes one line to standard output. */
  print(line: string): void
}

/** Resolves with the exit number; nothing means 0. */
export type Verb = (
  context: Context,
  options: Record<string, unknown>,
  args: string[],
) => Promise<number> | Promise<void>

export interface VerbDescription {
  name: string
  summary: string
  /** Command lines, each shown in --help. */
  examples: readonly string[]
  /** `[flags, description]`, as commander takes them. */
  options?: readonly (readonly [string, string])[]
  /** Such as `<id>` or `[name]`. */
  args?: readonly (readonly [string, string])[]
  run: Verb
}

/** Adds a verb with the options that all verbs have. A name of two words goes below a group: `config print`. */
export type AddVerb = (description: VerbDescription) => void

export interface ProgramOptions {
  args: readonly string[]
  env: NodeJS.ProcessEnv
  /** Runs before a verb does, not for --help; the door where root leaves. */
  beforeVerb?: (context: Context & { homeIsDefault: boolean }) => void
  stdout: (text: string) => void
  stderr: (text: string) => void
  addVerbs: readonly ((add: AddVerb) => void)[]
}

/** Runs the command line and resolves with the exit number. Failures become text, or one JSON document with --json. */
export async function runProgram(options: ProgramOptions): Promise<number> {
  let exit = 0
  const program = newProgram(options)
  const add: AddVerb = description => {
    const verb = addVerb(program, description)
    verb.action(async (...given: unknown[]) => {
      const command = given.at(-1) as Command
      const context = contextOf(command, options)
      options.beforeVerb?.(context)
      exit = (await description.run(context, command.opts(), command.args)) ?? 0
    })
  }
  for (const addSome of options.addVerbs) addSome(add)
  try {
    await program.parseAsync([...options.args], { from: 'user' })
    return exit
  } catch (error) {
    return report(error, options)
  }
}

const programRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** The home that this command line means: --home, else MOONYETIS_HOME, else .moonyetis beside the program. */
export function homeOf(
  given: string | undefined,
  env: NodeJS.ProcessEnv,
): { homeRoot: string; homeIsDefault: boolean } {
  const chosen = given || env.MOONYETIS_HOME
  return { homeRoot: resolve(chosen || join(programRoot, '.moonyetis')), homeIsDefault: !chosen }
}

function newProgram(options: ProgramOptions): Command {
  const program = new Command('moonyetis')
    .description('A provably fair slot game and the infrastructure that keeps it whole.')
    .version(readVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .configureHelp({ sortSubcommands: false })
    .exitOverride()
    .configureOutput({ writeOut: options.stdout, writeErr: () => {} })
    .addHelpText('after', examplesText(['npm start', 'npx moonyetis status', 'npx moonyetis up --help']))
  return program
}

function addVerb(program: Command, description: VerbDescription): Command {
  const words = description.name.split(' ')
  const parent = words.slice(0, -1).reduce(groupOf, program)
  const verb = parent
    .command(words.at(-1) as string)
    .description(description.summary)
    .option('--json', 'print JSON: one document, or one line per event')
    .option(
      '--home <dir>',
      'the home directory (default: MOONYETIS_HOME, else .moonyetis beside the program)',
    )
    .addHelpText('after', examplesText(description.examples))
  for (const [flags, text] of description.options ?? []) verb.option(flags, text)
  for (const [name, text] of description.args ?? []) verb.argument(name, text)
  return verb
}

const groupSummaries: Record<string, string> = {
  backup: 'take, look at, prove and restore backups',
  config: 'show or check the configuration',
  token: 'create, list or revoke operator tokens',
}

function groupOf(parent: Command, name: string): Command {
  const known = parent.commands.find(one => one.name() === name)
  return (
    known ??
    parent
      .command(name)
      .description(groupSummaries[name] ?? '')
      .helpCommand(false)
  )
}

function examplesText(examples: readonly string[]): string {
  return `\nExamples:\n${examples.map(example => `  $ ${example}`).join('\n')}\n`
}

function contextOf(command: Command, options: ProgramOptions): Context & { homeIsDefault: boolean } {
  const given = command.opts<{ home?: string; json?: boolean }>()
  const home = homeOf(given.home, options.env)
  return {
    programRoot,
    version: readVersion(),
    ...home,
    openHome: () => openHome(home.homeRoot),
    env: options.env,
    json: given.json ?? false,
    print: line => options.stdout(`${line}\n`),
  }
}

function report(error: unknown, options: ProgramOptions): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0
  const failure = asFailure(error)
  const { code, message, hint, row } = failure
  if (options.args.includes('--json')) {
    options.stderr(`${JSON.stringify({ error: { code, message, ...(hint ? { hint } : {}) } })}\n`)
  } else {
    options.stderr(`error: ${message}\n${hint ? `hint: ${hint}\n` : ''}`)
  }
  // A fault of the program itself: its place in the code is what a report needs.
  if (failure !== error && !(error instanceof CommanderError))
    options.stderr(`${(error as Error)?.stack ?? error}\n`)
  return row.exit
}

function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error
  if (!(error instanceof CommanderError))
    return roleError('UNEXPECTED', { reason: (error as Error)?.message ?? String(error) }, { cause: error })
  // Asked for nothing, or for a group without its verb: commander has help to show, which is not an error message.
  const reason =
    error.code === 'commander.help' ? 'a verb is missing' : error.message.replace(/^error: /, '').trim()
  return commonFailure('USAGE', { reason })
}

let version: string | undefined
function readVersion(): string {
  version ??= (JSON.parse(readFileSync(join(programRoot, 'package.json'), 'utf8')) as { version: string })
    .version
  return version
}
