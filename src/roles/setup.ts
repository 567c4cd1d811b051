import { existsSync } from 'node:fs'
import { backupError } from '#backup/errors.ts'
import { fingerprintOf } from '#backup/keys/age-keys.ts'
import { recipientName, recipientsOf } from '#backup/keys/recipients.ts'
import { type Chain, makeRecoveryKit, type RecoveryKit } from '#backup/keys/setup.ts'
import { layout } from '#backup/layout.ts'
import { Failure } from '#lib/errors.ts'
import { type Home, writeDurably } from '#lib/home.ts'
import { ensurePasswords, missingPasswords } from '#postgres/server/passwords.ts'
import type { Storage } from '#storage/storage.ts'

export interface SetupResult {
  home: string
  /** What was made now; empty when everything was there. */
  made: string[]
}

/** Makes the home, the secrets of its database and an empty configuration file. What is there is never touched. */
export function setup(home: Home): SetupResult {
  const made = missingPasswords(home).map(name => `.secrets/${name}`)
  ensurePasswords(home)
  if (!existsSync(home.configFile)) {
    writeDurably(home.configFile, '{}\n', 0o640)
    made.push('config.json')
  }
  return { home: home.root, made }
}

/** Real money is not played with before it can be brought back. @throws BACKUP_NOT_SET_UP (exit 3) */
export function requireRecoveryKey(home: Home): void {
  if (recipientsOf(home).length === 0) throw backupError('BACKUP_NOT_SET_UP')
}

export type KitOutcome =
  | { kind: 'made'; kit: RecoveryKit }
  /** It was shown when it was made; nobody can show it again. */
  | { kind: 'exists'; fingerprint: string; mend: string }

export interface KitOptions {
  home: Home
  storage: Storage
  chain: Chain
  /** One's own; without it one is generated. */
  passphrase?: string
  /** Another passphrase for the key that is there. @throws BACKUP_KIT_EXISTS on mainnet, whose key is not there */
  anew?: boolean
}

/** Makes the recovery kit unless there is one. @throws what the storage meets */
export async function ensureRecoveryKit(o: KitOptions): Promise<KitOutcome> {
  const { home, storage, chain, passphrase } = o
  const known = o.anew ? undefined : await kitThatExists(o)
  if (known) return known
  try {
    const given = passphrase === undefined ? {} : { passphrase }
    return { kind: 'made', kit: await makeRecoveryKit({ home, storage, chain, ...given }) }
  } catch (error) {
    // The key is in use and not here, and this repository does not hold it: it was another one's, or it was emptied.
    if (o.anew || !(error instanceof Failure) || error.code !== 'BACKUP_KIT_EXISTS') throw error
    return { kind: 'exists', fingerprint: String(error.facts.fingerprint), mend: error.hint ?? '' }
  }
}

async function kitThatExists({ home, storage, chain }: KitOptions): Promise<KitOutcome | undefined> {
  const [recipient] = recipientsOf(home)
  if (recipient === undefined) return undefined
  const fingerprint = fingerprintOf(recipient)
  if (!(await storage.head(layout.identity(fingerprint)))) return undefined
  const mend =
    chain === 'simulated'
      ? 'When it is lost: `moonyetis setup --new-kit` makes another passphrase; the old one then opens nothing.'
      : `When it is lost: remove .secrets/${recipientName}, run \`moonyetis setup\`, then make a full backup at once. Older backups stay closed.`
  return { kind: 'exists', fingerprint, mend }
}
