import { type Clock, systemClock } from '#lib/clock.ts'
import { commonFailure } from '#lib/errors.ts'
import { ensureSecret, type Home, readSecret } from '#lib/home.ts'
import type { Storage } from '#storage/storage.ts'
import { backupError } from '../errors.ts'
import { layout } from '../layout.ts'
import { Repository } from '../repository.ts'
import { lock } from './age-files.ts'
import { fingerprintOf, newAgeKeyPair, recipientOf } from './age-keys.ts'
import { identityName } from './identities.ts'
import { identityText, parseIdentityText } from './identity-file.ts'
import { kitText, type Language } from './kit-text.ts'
import { newPassphrase, normalPassphrase } from './passphrase.ts'
import { recipientName } from './recipients.ts'
import { newSigningKey, signingKeyName } from './signing.ts'

export type Chain = 'simulated' | 'mainnet'

export interface RecoveryKit {
  passphrase: string
  /** `age1...` */
  recipient: string
  /** As in identity/<fingerprint>.age. */
  fingerprint: string
  /** Ed25519 public key, base64. */
  signer: string
  text(language: Language): string
}

/**
 * What the first start needs to back up: recipient, signing key and, where money is play money, the identity too, so
 * that everything works unattended. Names of the secrets that were made; none the next time.
 * @throws BACKUP_NOT_SET_UP on mainnet before `moonyetis setup`: a recovery key that nobody has seen saves nobody
 */
export function ensureBackupKeys({ home, chain }: { home: Home; chain: Chain }): { made: string[] } {
  const made: string[] = []
  const ensure = (name: string, make: () => string) => {
    if (readSecret(home, name) === undefined) made.push(name)
    return ensureSecret(home, name, make)
  }
  if (readSecret(home, recipientName) === undefined) {
    if (chain === 'mainnet') throw backupError('BACKUP_NOT_SET_UP')
    // The identity first: a recipient without one would lock everybody out.
    ensure(identityName, () => newAgeKeyPair().identity)
    ensure(recipientName, () => recipientOf(keptIdentity(home) as string) as string)
  }
  ensure(signingKeyName, newSigningKey)
  return { made }
}

/**
 * Makes the repository if there is none, locks the identity with the passphrase into it and gives what must be kept
 * outside. On mainnet the identity stays in that locked form alone.
 * @throws BACKUP_KIT_EXISTS when the recovery key is in use and not here
 */
export async function makeRecoveryKit(o: {
  home: Home
  storage: Storage
  chain: Chain
  /** Without it one of 130 bits is generated. */
  passphrase?: string
  clock?: Clock
  /** Power of two of scrypt's cost. */
  workFactor?: number
}): Promise<RecoveryKit> {
  const { home, storage, chain, clock = systemClock } = o
  if (chain === 'simulated') ensureBackupKeys({ home, chain })
  const identity = identityForKit(home, chain)
  const recipient = recipientOf(identity) as string
  const fingerprint = fingerprintOf(recipient)
  const passphrase = o.passphrase === undefined ? newPassphrase() : chosenPassphrase(o.passphrase)
  ensureSecret(home, signingKeyName, newSigningKey)
  const { id: repositoryId, signer } = await Repository.create({ storage, home, clock })
  const plain = identityText({ identity, repositoryId, signer, createdAt: clock.now() })
  const locked = await lock({ passphrase, plain, ...(o.workFactor && { workFactor: o.workFactor }) })
  await storage.put(layout.identity(fingerprint), [locked])
  // Last: from here on backups are made for this recipient, and its identity is safe.
  if (!ensureSecret(home, recipientName, () => recipient).includes(recipient)) throw kitExists(home)
  const facts = { passphrase, repository: storage.description, repositoryId, recipient, fingerprint, signer }
  return { passphrase, recipient, fingerprint, signer, text: language => kitText(facts, language) }
}

// The locked identity lies in the repository, where whoever can read it may guess at leisure.
const shortestPassphrase = 12

function chosenPassphrase(typed: string): string {
  const passphrase = normalPassphrase(typed)
  if (passphrase.length >= shortestPassphrase) return passphrase
  const reason = `The recovery passphrase has fewer than ${shortestPassphrase} characters.`
  throw commonFailure('VALIDATION', { reason })
}

function identityForKit(home: Home, chain: Chain): string {
  const recipient = readSecret(home, recipientName)
  if (recipient === undefined && chain === 'mainnet') return newAgeKeyPair().identity
  const kept = keptIdentity(home)
  if (kept === undefined || !recipient?.includes(recipientOf(kept) as string)) throw kitExists(home)
  return kept
}

function kitExists(home: Home): Error {
  const [recipient = ''] = (readSecret(home, recipientName) ?? '').split(/\s/)
  const path = `.secrets/${recipientName}`
  return backupError('BACKUP_KIT_EXISTS', { fingerprint: fingerprintOf(recipient), path })
}

/** @throws BACKUP_IDENTITY_UNUSABLE */
function keptIdentity(home: Home): string | undefined {
  const text = readSecret(home, identityName)
  if (text === undefined) return undefined
  const identity = parseIdentityText(text)?.identities[0]
  if (identity !== undefined) return identity
  const reason = 'it holds a line that is no AGE-SECRET-KEY-1...'
  throw backupError('BACKUP_IDENTITY_UNUSABLE', { where: `.secrets/${identityName}`, reason })
}
