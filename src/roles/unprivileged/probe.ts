import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Account } from './account.ts'

export interface Questions {
  /** Directories whose every file must be readable. */
  trees?: readonly string[]
  /** Files that must be readable. */
  files?: readonly string[]
  /** Programs that must run with --version. */
  programs?: readonly string[]
  /** Directories that must be writable. */
  writable?: readonly string[]
  /** Directories that must be passable. */
  passable?: readonly string[]
}

// Plain JavaScript text: the account may not be able to read any file of ours, so nothing can be imported.
const script = `
const fs = require('node:fs'), path = require('node:path'), { execFileSync } = require('node:child_process')
const asked = JSON.parse(fs.readFileSync(0, 'utf8'))
const tree = directory => {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    const at = path.join(directory, entry.name)
    if (entry.isDirectory()) tree(at)
    else fs.accessSync(at, fs.constants.R_OK)
  }
}
let at
try {
  for (at of asked.passable ?? []) fs.accessSync(at, fs.constants.X_OK)
  for (at of asked.writable ?? []) fs.accessSync(at, fs.constants.W_OK | fs.constants.X_OK)
  for (at of asked.files ?? []) fs.accessSync(at, fs.constants.R_OK)
  for (at of asked.trees ?? []) tree(at)
  for (at of asked.programs ?? []) execFileSync(at, ['--version'], { stdio: 'ignore', timeout: 20000 })
} catch (error) {
  process.stdout.write((error.path ?? at) + ' (' + (error.code ?? error.message) + ')')
}
`

/**
 * Asks the kernel by really becoming the account, since modes, ACLs, mounts and security modules all have a say.
 * Returns undefined when all is well, else the first thing that the account cannot use.
 */
export function probe(account: Account, node: string, questions: Questions): string | undefined {
  const { uid, gid } = account
  const result = spawnSync(node, ['-e', script], {
    uid,
    gid,
    cwd: '/',
    env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
    input: JSON.stringify(questions),
    encoding: 'utf8',
    timeout: 30_000,
  })
  if (result.error) return `${node} (${(result.error as NodeJS.ErrnoException).code ?? result.error.message})`
  if (result.status !== 0)
    return `${node} (${result.stderr.trim().split('\n')[0] || `exit ${result.status}`})`
  return result.stdout || undefined
}

/** The directory itself or its nearest ancestor that exists. */
export function nearestExisting(directory: string): string {
  return existsSync(directory) || directory === dirname(directory)
    ? directory
    : nearestExisting(dirname(directory))
}
