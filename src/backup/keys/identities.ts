import { readFileSync } from 'node:fs'
import { type Home, readSecret } from '#lib/home.ts'
import type { Storage } from '#storage/storage.ts'
import { backupError } from '../errors.ts'
import { layout } from '../layout.ts'
import { unlock } from './age-files.ts'
import { fingerprintOf, recipientOf } from './age-keys.ts'
import { type IdentityFile, parseIdentityText } from './identity-file.ts'
import { normalPassphrase } from './passphrase.ts'

export const identityName = 'backup_identity'

interface IdentitySources {
  /** `.secrets/backup_identity`, which a simulated home keeps. */
  home?: Home
  /** Path of an identity file, in clear or locked by the passphrase. */
  identityFile?: string
  passphrase?: string
  /** Of the repository whose identity/ the passphrase opens. */
  storage?: Storage
}

/** What the recovery key gives. */
interface Recovery {
  /** `AGE-SECRET-KEY-1...` */
  identities: string[]
  /** Ed25519 public key, base64: written by whoever made the recovery key, so trusted above the repository itself. */
  trustedSigner?: string
  repositoryId?: string
}

// Each costs a second; more than this was not written by us.
const mostIdentityFiles = 16

/**
 * The identities of all sources that are given, and the signer that the first of them names.
 * @throws BACKUP_IDENTITY_UNUSABLE, BACKUP_PASSPHRASE_WRONG
 */
export async function recoveryFrom(o: IdentitySources): Promise<Recovery> {
  const found: IdentityFile[] = []
  if (o.identityFile !== undefined) found.push(await fromFile(o.identityFile, o.passphrase))
  if (o.passphrase !== undefined && o.storage)
    found.push(...(await fromRepository(o.storage, o.passphrase, found)))
  const own = o.home && readSecret(o.home, identityName)
  if (own !== undefined) found.push(parsed(own, `.secrets/${identityName}`))
  const named = found.find(file => file.signer !== undefined)
  return {
    identities: [...new Set(found.flatMap(file => file.identities))],
    ...(named?.signer !== undefined && { trustedSigner: named.signer }),
    ...(named?.repositoryId !== undefined && { repositoryId: named.repositoryId }),
  }
}

async function fromFile(path: string, passphrase: string | undefined): Promise<IdentityFile> {
  const bytes = readIdentityFile(path)
  if (!bytes.subarray(0, lockedBegin.length).equals(lockedBegin)) return parsed(bytes.toString('utf8'), path)
  if (passphrase === undefined) throw unusable(path, 'it is locked and the passphrase is not given')
  const text = await unlock(normalPassphrase(passphrase), bytes)
  if (text === undefined) throw backupError('BACKUP_PASSPHRASE_WRONG', { where: path })
  return parsed(text, path)
}

const lockedBegin = Buffer.from('age-encryption.org/v1')

function readIdentityFile(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw unusable(path, (error as NodeJS.ErrnoException).code ?? 'it cannot be read')
  }
}

/** A passphrase that opens nothing is a mistake, unless an identity file is there already. */
async function fromRepository(
  storage: Storage,
  passphrase: string,
  known: readonly IdentityFile[],
): Promise<IdentityFile[]> {
  const opened: IdentityFile[] = []
  let seen = 0
  for await (const { key } of storage.list(layout.identities)) {
    if (++seen > mostIdentityFiles) break
    const text = await unlock(normalPassphrase(passphrase), await storage.get(key))
    if (text === undefined) continue
    const file = parsed(text, key)
    // The name is not secret and not authenticated; what it must match is.
    if (file.identities.some(identity => key === layout.identity(fingerprintOf(recipientOf(identity) ?? ''))))
      opened.push(file)
  }
  if (opened.length === 0 && known.length === 0)
    throw backupError('BACKUP_PASSPHRASE_WRONG', { where: storage.description })
  return opened
}

function parsed(text: string, where: string): IdentityFile {
  const file = parseIdentityText(text)
  if (!file) throw unusable(where, 'it holds a line that is no AGE-SECRET-KEY-1...')
  return file
}

function unusable(where: string, reason: string): Error {
  return backupError('BACKUP_IDENTITY_UNUSABLE', { where, reason })
}
