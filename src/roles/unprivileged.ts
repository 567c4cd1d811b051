import { existsSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { roleError } from './errors.ts'
import { type Account, chooseAccount } from './unprivileged/account.ts'
import { nodeIn, placeHome, placeProgram } from './unprivileged/placement.ts'
import { probe } from './unprivileged/probe.ts'
import { prepareTargets } from './unprivileged/targets.ts'

export interface LeaveRootOptions {
  /** Arguments after the script. */
  args: readonly string[]
  env: NodeJS.ProcessEnv
  programRoot: string
  homeRoot: string
  /** Whether homeRoot is the default one inside the clone. */
  homeIsDefault: boolean
  /** Called with one line when the program or the home could not stay where they are. */
  say: (line: string) => void
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0
}

/**
 * Becomes an unprivileged user for good and runs the same command again, on the pinned Node. Only the start happens as
 * root: no role, no PostgreSQL and no file of the home is ever root's. Does not return.
 */
export function leaveRoot(options: LeaveRootOptions): never {
  const { env, args } = options
  const account = chooseAccount(options.homeRoot)
  const clone = realpathSync(options.programRoot)
  const program = placeProgram({ account, clone, node: process.execPath })
  const node = nodeIn(program.programRoot) ?? process.execPath
  const namedAfter = options.homeIsDefault ? clone : options.homeRoot
  const home = placeHome({ account, homeRoot: options.homeRoot, namedAfter, node })
  if (program.copied || (args[0] === 'up' && (program.moved || home.moved))) {
    options.say(
      movedLine(account, {
        program: program.moved && program.programRoot,
        home: home.moved && home.homeRoot,
      }),
    )
  }
  const command = [
    node,
    ...process.execArgv,
    join(program.programRoot, 'src', 'main.ts'),
    ...prepareTargets(withoutHome(args), account),
  ]
  become(account, {
    directory: home.homeRoot,
    node,
    environment: environmentFor(env, account, home.homeRoot, node),
    command,
  })
}

/** The arguments without --home, which goes by MOONYETIS_HOME because its place may have changed. */
export function withoutHome(args: readonly string[]): string[] {
  const end = args.indexOf('--')
  return args.filter((argument, index) => {
    if (end !== -1 && index >= end) return true
    return argument !== '--home' && args[index - 1] !== '--home' && !argument.startsWith('--home=')
  })
}

/** Root's own places and names go; everything else is passed on. */
export function environmentFor(
  env: NodeJS.ProcessEnv,
  account: Account,
  homeRoot: string,
  node: string,
): NodeJS.ProcessEnv {
  const left = Object.entries(env).filter(([name]) => !/^(SUDO_|XDG_|npm_|MAIL$|OLDPWD$|PWD$)/.test(name))
  const environment: NodeJS.ProcessEnv = { ...Object.fromEntries(left), MOONYETIS_HOME: homeRoot }
  Object.assign(environment, { HOME: homeRoot, USER: account.name, LOGNAME: account.name })
  const { TMPDIR } = environment
  if (TMPDIR && probe(account, node, { writable: [TMPDIR] })) delete environment.TMPDIR
  return environment
}

function become(
  account: Account,
  options: { directory: string; node: string; environment: NodeJS.ProcessEnv; command: string[] },
): never {
  const { environment, command, node } = options
  // Relative paths of the command line keep their meaning wherever the user may stay where root was.
  if (!existsSync(process.cwd()) || probe(account, node, { passable: [process.cwd()] }))
    process.chdir(options.directory)
  try {
    process.setgroups?.([])
    process.setgid?.(account.gid)
    process.setuid?.(account.uid)
  } catch (error) {
    const reason = `this root may not become ${account.name} (${(error as Error).message})`
    throw roleError('NO_UNPRIVILEGED_USER', { reason }, { cause: error })
  }
  if (!process.execve) throw roleError('NODE_TOO_OLD', { wanted: 24, found: process.version })
  return process.execve(command[0] as string, command, environment)
}

function movedLine(account: Account, places: { program: string | false; home: string | false }): string {
  const { program, home } = places
  const what = [program && `the program runs from ${program}`, home && `the data is in ${home}`].filter(
    Boolean,
  )
  return `${account.name}, who runs MoonYetis for root, cannot reach this place: ${what.join(', ')}`
}
