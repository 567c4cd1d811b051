import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { Home } from '#lib/home.ts'
import type { Check } from './check.ts'

/** Files that hold keys: all of .secrets, and the data keys of the newest backup. */
export function keyFilesOf(home: Home): string[] {
  const names = readdirSync(home.secrets, { recursive: true, encoding: 'utf8' })
  const secrets = names.map(name => join(home.secrets, name))
  return [...secrets, ...dataKeyFilesOf(home)].filter(path =>
    lstatSync(path, { throwIfNoEntry: false })?.isFile(),
  )
}

/** Data keys of backups: 32 bytes each, not text. */
export function dataKeyFilesOf(home: Home): string[] {
  const directory = join(home.state, 'backup-keys')
  return existsSync(directory) ? readdirSync(directory).map(name => join(directory, name)) : []
}

/** Whether nobody but the owner of the home may read the keys. */
export function keyFilesCheck(home: Home): Check {
  const owner = statSync(home.root).uid
  const files = keyFilesOf(home).map(path => ({ path, ...statOf(path) }))
  const open = files.filter(file => (file.mode & 0o077) !== 0)
  const foreign = files.filter(file => file.uid !== owner)
  const names = (some: { path: string }[]) => some.map(one => relative(home.root, one.path)).join(' ')
  const wrong = [
    ...(open.length > 0 ? [`others may read ${names(open)}`] : []),
    ...(foreign.length > 0 ? [`${names(foreign)} belong to another user`] : []),
  ]
  const mends = [
    ...(open.length > 0 ? [`chmod 600 ${names(open)}`] : []),
    ...(foreign.length > 0 ? [`chown ${owner} ${names(foreign)}`] : []),
  ]
  if (wrong.length === 0) return { name: 'key files', ok: true, seen: `${files.length}, private` }
  const mend = `in ${home.root}: ${mends.join('; ')}`
  return { name: 'key files', ok: false, seen: wrong.join('; '), mend }
}

function statOf(path: string): { mode: number; uid: number } {
  const { mode, uid } = lstatSync(path)
  return { mode: mode & 0o777, uid }
}
