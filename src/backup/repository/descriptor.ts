import { type KeyObject, randomBytes } from 'node:crypto'
import Type from 'typebox'
import Compile from 'typebox/compile'
import type { Storage } from '#storage/storage.ts'
import { requireSound } from '../envelope/damage.ts'
import { backupError } from '../errors.ts'
import { signerKey, signerOf } from '../keys/signing.ts'
import { layout } from '../layout.ts'
import { formatVersion, type RepositoryDescriptor } from '../model.ts'
import { naming } from './damage.ts'
import { decodeSigned, encodeSigned, peekSigned } from './signed.ts'

/** Why the signer of a repository is believed. */
export interface Trust {
  by: 'home' | 'kit' | 'repository'
  /** For people: set when nothing but the repository itself vouches for its signer. */
  warning?: string
}

const descriptorCheck = Compile(
  Type.Object({
    format: Type.Literal(formatVersion),
    id: Type.String({ pattern: '^[0-9a-f]{32}$' }),
    signer: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' }),
    createdAt: Type.String({ maxLength: 40 }),
  }),
)

/** Writes repository.json where there is none; of two at once, both get the first one's. */
export async function ensureDescriptor(
  storage: Storage,
  signingKey: KeyObject,
  now: Date,
): Promise<RepositoryDescriptor> {
  const known = await findDescriptor(storage)
  if (known) return known
  const fresh: RepositoryDescriptor = {
    format: formatVersion,
    id: randomBytes(16).toString('hex'),
    signer: signerOf(signingKey),
    createdAt: now.toISOString(),
  }
  const place = { repositoryId: fresh.id, key: layout.repository }
  await storage.putNew(layout.repository, [encodeSigned(place, fresh, signingKey)])
  return readDescriptor(storage)
}

/** @throws REPOSITORY_NOT_FOUND, BACKUP_OBJECT_DAMAGED */
export async function readDescriptor(storage: Storage): Promise<RepositoryDescriptor> {
  const found = await findDescriptor(storage)
  if (!found) throw backupError('REPOSITORY_NOT_FOUND', { repository: storage.description })
  return found
}

async function findDescriptor(storage: Storage): Promise<RepositoryDescriptor | undefined> {
  if (!(await storage.head(layout.repository))) return undefined
  return naming(layout.repository, async () => parseDescriptor(await storage.get(layout.repository)))
}

/** Proves that it is whole; whether its signer is the right one is decided by trustIn. */
function parseDescriptor(bytes: Buffer): RepositoryDescriptor {
  const claimed = peekSigned(bytes)
  const { format } = claimed as { format?: unknown }
  requireSound(!(Number(format) > formatVersion), 'it is of a newer format than this version reads')
  requireSound(descriptorCheck.Check(claimed), 'it does not describe a repository')
  const { id, signer } = claimed
  decodeSigned(bytes, { repositoryId: id, key: layout.repository }, signerKey(signer))
  return claimed as RepositoryDescriptor
}

/**
 * A home knows its own signer and a recovery key names one; a bare repository can only speak for itself.
 * @throws REPOSITORY_FOREIGN
 */
export function trustIn(o: {
  signer: string
  repository: string
  homeSigner?: string
  trustedSigner?: string
}): Trust {
  const { signer, homeSigner, trustedSigner } = o
  if (signer === homeSigner) return { by: 'home' }
  if (signer === trustedSigner) return { by: 'kit' }
  const expected = trustedSigner ?? homeSigner
  if (expected !== undefined)
    throw backupError('REPOSITORY_FOREIGN', { repository: o.repository, found: signer, expected })
  const warning = `Nothing but ${o.repository} itself says that ${signer} signs it. Compare that with the recovery kit.`
  return { by: 'repository', warning }
}
