import { Decrypter, Encrypter } from 'age-encryption'

// Plain age files (C2SP.org/age), so that the `age` command alone opens them. Causes are dropped on purpose: messages of
// the library can repeat what it was given.

/** 2^18 as age does: about a second and 256 MiB for each guess. */
const usualWorkFactor = 18

export async function encryptFor(recipient: string, plain: Uint8Array): Promise<Uint8Array> {
  const encrypter = new Encrypter()
  encrypter.addRecipient(recipient)
  return encrypter.encrypt(plain)
}

/** Undefined when the file is not for this identity or damaged; age cannot tell which. */
export async function decryptWith(identity: string, file: Uint8Array): Promise<Uint8Array | undefined> {
  const decrypter = new Decrypter()
  decrypter.addIdentity(identity)
  return decrypter.decrypt(file).catch(() => undefined)
}

export async function lock(o: {
  passphrase: string
  plain: string
  /** Power of two of scrypt's cost. */
  workFactor?: number
}): Promise<Uint8Array> {
  const encrypter = new Encrypter()
  encrypter.setPassphrase(o.passphrase)
  encrypter.setScryptWorkFactor(o.workFactor ?? usualWorkFactor)
  return encrypter.encrypt(o.plain)
}

/** Undefined when the passphrase is another one or the file is damaged. */
export async function unlock(passphrase: string, file: Uint8Array): Promise<string | undefined> {
  const decrypter = new Decrypter()
  decrypter.addPassphrase(passphrase)
  return decrypter.decrypt(file, 'text').catch(() => undefined)
}
