import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { type Home, readSecret } from '#lib/home.ts'

export const signingKeyName = 'backup_signing_key'

// SubjectPublicKeyInfo of an Ed25519 key is this and the 32 bytes of the key (RFC 8410).
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex')
const signerPattern = /^[A-Za-z0-9+/]{43}=$/

/** Ed25519 (RFC 8032), PKCS #8 PEM. */
export function newSigningKey(): string {
  return generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString().trim()
}

/** The key that signs this home's repositories; undefined before the set-up. */
export function signingKeyOf(home: Home): KeyObject | undefined {
  const pem = readSecret(home, signingKeyName)
  return pem === undefined ? undefined : createPrivateKey(pem)
}

/** The public half as text: its 32 bytes, base64. */
export function signerOf(signingKey: KeyObject): string {
  const spki = createPublicKey(signingKey).export({ type: 'spki', format: 'der' })
  return spki.subarray(spkiPrefix.length).toString('base64')
}

export function isSigner(text: string): boolean {
  return signerPattern.test(text)
}

/** The reverse of signerOf. */
export function signerKey(signer: string): KeyObject {
  const key = Buffer.concat([spkiPrefix, Buffer.from(signer, 'base64')])
  return createPublicKey({ key, type: 'spki', format: 'der' })
}
