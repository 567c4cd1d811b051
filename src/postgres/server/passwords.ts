import { randomBytes } from 'node:crypto'
import { ensureSecret, type Home, readSecret } from '#lib/home.ts'

/** Of the roles that connect over loopback; the others are known by their operating-system user. */
export interface Passwords {
  /** Of moonyetis_user, for people's psql. */
  user: string
  replication: string
}

/** Names below .secrets. */
const passwordFiles = { user: 'db_password', replication: 'replication_password' } as const

/** Reads the passwords of a home and makes those that are missing. */
export function ensurePasswords(home: Home): Passwords {
  const make = () => randomBytes(24).toString('base64url')
  return {
    user: ensureSecret(home, passwordFiles.user, make),
    replication: ensureSecret(home, passwordFiles.replication, make),
  }
}

/** Files that the home does not have yet. */
export function missingPasswords(home: Home): string[] {
  return Object.values(passwordFiles).filter(name => readSecret(home, name) === undefined)
}
