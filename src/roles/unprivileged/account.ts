import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { roleError } from '../errors.ts'

export interface Account {
  name: string
  uid: number
  gid: number
}

/** In this order; the first that exists is used. */
const names = ['moonyetis', 'nobody']

/**
 * Who runs everything when root starts it: the owner of an existing home, since PostgreSQL demands that its data belongs
 * to it, else the user moonyetis, else nobody. Throws NO_UNPRIVILEGED_USER.
 */
export function chooseAccount(homeRoot: string): Account {
  const owner = statSync(homeRoot, { throwIfNoEntry: false })
  if (owner && owner.uid !== 0) return accountOfUid(owner.uid, owner.gid)
  for (const name of names) {
    const account = accountOfName(name)
    if (account && account.uid !== 0) return account
  }
  throw roleError('NO_UNPRIVILEGED_USER', { reason: `neither ${names.join(' nor ')} exists` })
}

/** Lines of passwd(5): name, password, uid, gid, and more. */
export function findAccount(passwd: string, wanted: { name: string } | { uid: number }): Account | undefined {
  for (const line of passwd.split('\n')) {
    const [name = '', , uid, gid] = line.split(':')
    if (!uid || !gid) continue
    if ('name' in wanted ? wanted.name === name : wanted.uid === Number(uid))
      return { name, uid: Number(uid), gid: Number(gid) }
  }
  return undefined
}

function accountOfUid(uid: number, gid: number): Account {
  const known = findAccount(passwdFile(), { uid })
  const name = known?.name ?? ask(['-nu', String(uid)])
  if (name === undefined) {
    throw roleError('NO_UNPRIVILEGED_USER', { reason: `the home belongs to uid ${uid}, which has no name` })
  }
  return { name, uid, gid: known?.gid ?? gid }
}

function accountOfName(name: string): Account | undefined {
  const known = findAccount(passwdFile(), { name })
  if (known) return known
  // Directory services and macOS keep their users elsewhere.
  const [uid, gid] = [ask(['-u', name]), ask(['-g', name])].map(Number)
  return Number.isSafeInteger(uid) && Number.isSafeInteger(gid)
    ? { name, uid: uid as number, gid: gid as number }
    : undefined
}

function passwdFile(): string {
  try {
    return readFileSync('/etc/passwd', 'utf8')
  } catch {
    return ''
  }
}

function ask(args: string[]): string | undefined {
  try {
    return execFileSync('id', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}
