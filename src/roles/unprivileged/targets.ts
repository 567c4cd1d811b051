import { chownSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Account } from './account.ts'

/**
 * Options that name a place to write to: relative ones keep their meaning when the directory is changed, and the
 * directory of a restore, which root may make anywhere, becomes the account's when it is new or empty.
 */
export function prepareTargets(args: readonly string[], account: Account): string[] {
  const absolute = args.map((argument, index) => (isPlace(args[index - 1]) ? resolve(argument) : argument))
  const to = absolute[absolute.indexOf('--to') + 1]
  if (
    args[0] === 'backup' &&
    args[1] === 'restore' &&
    args.includes('--to') &&
    !args.includes('--dry-run') &&
    to
  )
    giveDirectory(to, account)
  return absolute
}

function isPlace(option: string | undefined): boolean {
  return option === '--to' || option === '--out'
}

function giveDirectory(path: string, account: Account): void {
  if (!existsSync(path)) mkdirSync(path, { recursive: true, mode: 0o755 })
  // Somebody's data is not taken from them: the restore then refuses the directory in words.
  if (statSync(path).isDirectory() && readdirSync(path).length === 0)
    chownSync(path, account.uid, account.gid)
}
