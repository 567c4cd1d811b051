import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs'
import { basename, join, relative } from 'node:path'

// What the running program reads; tests, tools and documents stay behind.
const programParts = ['package.json', 'src', 'migrations']
// A start that is between choosing a copy and running it is far younger than this.
const unusedForMs = 10 * 60_000

export interface ProgramCopy {
  programRoot: string
  /** Whether something had to be copied. */
  copied: boolean
}

/**
 * Copies program and packages of the clone below `base`, readable for everybody and writable for root alone. Each copy is named by its
 * content and appears whole, by rename; what no process uses any more is removed.
 */
export function copyProgram(options: { clone: string; base: string }): ProgramCopy {
  const { clone, base } = options
  mkdirSync(base, { recursive: true, mode: 0o755 })
  chmodSync(base, 0o755)
  const packages = installedPackages(clone)
  const modules = join(base, `modules-${fingerprint([readLock(clone)])}`)
  const app = join(
    base,
    `app-${fingerprint([basename(modules), ...programFiles(clone).map(file => describe(clone, file))])}`,
  )
  const copied = [
    makeWhole(modules, directory => copyPackages(clone, packages, directory)),
    makeWhole(app, directory => copyParts(clone, directory, modules)),
  ].includes(true)
  if (copied) prune(base, [app, modules])
  return { programRoot: app, copied }
}

/** Paths below node_modules that the program needs, development packages left out. */
export function installedPackages(clone: string): string[] {
  const lock = JSON.parse(readLock(clone)) as { packages: Record<string, { dev?: boolean }> }
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== '' && !entry.dev)
    .map(([path]) => path)
}

function readLock(clone: string): string {
  return readFileSync(lockOf(clone), 'utf8')
}

function lockOf(directory: string): string {
  return join(directory, 'node_modules', '.package-lock.json')
}

function programFiles(clone: string): string[] {
  const walk = (path: string): string[] => {
    const stats = statSync(path, { throwIfNoEntry: false })
    if (!stats) return []
    return stats.isDirectory()
      ? readdirSync(path)
          .sort()
          .flatMap(name => walk(join(path, name)))
      : [path]
  }
  return programParts.flatMap(part => walk(join(clone, part))).filter(file => !file.endsWith('.test.ts'))
}

function describe(clone: string, file: string): string {
  const { size, mtimeMs } = statSync(file)
  return `${relative(clone, file)} ${size} ${mtimeMs}`
}

function fingerprint(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 12)
}

function makeWhole(directory: string, fill: (directory: string) => void): boolean {
  if (existsSync(directory)) {
    const now = new Date()
    utimesSync(directory, now, now)
    return false
  }
  const making = `${directory}.new-${process.pid}`
  rmSync(making, { recursive: true, force: true })
  mkdirSync(making, { mode: 0o755 })
  chmodSync(making, 0o755)
  fill(making)
  // A power cut must not leave a whole name on half the bytes.
  execFileSync('sync')
  try {
    renameSync(making, directory)
  } catch (error) {
    // Another start has just finished the same copy.
    if (!existsSync(directory)) throw error
    rmSync(making, { recursive: true, force: true })
  }
  return true
}

function copyParts(clone: string, directory: string, modules: string): void {
  for (const part of programParts) {
    if (existsSync(join(clone, part)))
      copyTree(join(clone, part), join(directory, part), name => name.endsWith('.test.ts'))
  }
  symlinkSync(join('..', basename(modules), 'node_modules'), join(directory, 'node_modules'))
}

function copyPackages(clone: string, packages: readonly string[], directory: string): void {
  mkdirSync(join(directory, 'node_modules'), { mode: 0o755 })
  chmodSync(join(directory, 'node_modules'), 0o755)
  copyTree(lockOf(clone), lockOf(directory), () => false)
  for (const path of packages.toSorted()) {
    const parent = join(directory, path, '..')
    mkdirSync(parent, { recursive: true, mode: 0o755 })
    // The headers of Node are as large as half of the rest; nothing is compiled there. Nested packages have their own entry.
    copyTree(join(clone, path), join(directory, path), name => name === 'include' || name === 'node_modules')
  }
}

function copyTree(source: string, target: string, leaveOut: (name: string) => boolean): void {
  const stats = lstatSync(source)
  if (stats.isSymbolicLink()) symlinkSync(readlinkSync(source), target)
  else if (!stats.isDirectory()) {
    copyFileSync(source, target, constants.COPYFILE_FICLONE)
    // The clone's own modes may come from a umask that shuts others out.
    chmodSync(target, stats.mode & 0o100 ? 0o755 : 0o644)
  } else {
    mkdirSync(target, { recursive: true })
    chmodSync(target, 0o755)
    for (const name of readdirSync(source)) {
      if (!leaveOut(name)) copyTree(join(source, name), join(target, name), leaveOut)
    }
  }
}

function prune(base: string, current: readonly string[]): void {
  const commands = runningCommands()
  const inUse = (name: string) =>
    current.includes(join(base, name)) ||
    Date.now() - statSync(join(base, name)).mtimeMs < unusedForMs ||
    commands.includes(join(base, name))
  const copies = readdirSync(base).filter(name => /^(app|modules)-/.test(name))
  const kept = new Set(copies.filter(inUse))
  for (const app of [...kept].filter(name => name.startsWith('app-'))) {
    const link = lstatSync(join(base, app, 'node_modules'), { throwIfNoEntry: false })
    if (link?.isSymbolicLink())
      kept.add(readlinkSync(join(base, app, 'node_modules')).split('/')[1] as string)
  }
  for (const name of copies.filter(one => !kept.has(one)))
    rmSync(join(base, name), { recursive: true, force: true })
}

/** Command lines of everything that runs, as one text. */
function runningCommands(): string {
  if (process.platform !== 'linux') {
    return execFileSync('ps', ['-axww', '-o', 'command='], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  }
  // A slim container has no ps.
  const commands = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(readCommand)
  return commands.join('\n')
}

function readCommand(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It has ended meanwhile.
    return ''
  }
}
