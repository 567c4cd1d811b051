import { createHash } from 'node:crypto'
import { crc32c } from '@node-rs/crc32'
import { crc32cHex, type ManifestFile } from '#postgres/wire/manifest.ts'

/** Takes the bytes of one file as they come. */
export interface FileCheck {
  take(bytes: Buffer): void
  /** Undefined when the file is what the manifest says, else how it is not. */
  verdict(): string | undefined
}

const hashes: Record<string, string> = {
  SHA224: 'sha224',
  SHA256: 'sha256',
  SHA384: 'sha384',
  SHA512: 'sha512',
}

export function checkAgainst(expected: ManifestFile): FileCheck {
  const sum = sumFor(expected.checksumAlgorithm)
  let bytesTaken = 0
  return {
    take: bytes => {
      bytesTaken += bytes.length
      sum.update(bytes)
    },
    verdict: () => {
      if (bytesTaken !== expected.bytes) return `it has ${bytesTaken} bytes instead of ${expected.bytes}`
      if (expected.checksum === undefined || sum.hex() === expected.checksum) return undefined
      return `its ${expected.checksumAlgorithm} is not the one of the manifest`
    },
  }
}

interface Sum {
  update(bytes: Buffer): void
  hex(): string
}

function sumFor(algorithm: string | undefined): Sum {
  if (algorithm === undefined) return { update: () => {}, hex: () => '' }
  if (algorithm === 'CRC32C') return crc32cSum()
  const name = hashes[algorithm]
  // A sum that nobody can compute fits no file.
  if (name === undefined) return { update: () => {}, hex: () => `unknown algorithm ${algorithm}` }
  const hash = createHash(name)
  return { update: bytes => void hash.update(bytes), hex: () => hash.digest('hex') }
}

function crc32cSum(): Sum {
  let value = 0
  return {
    update: bytes => {
      value = crc32c(bytes, value)
    },
    hex: () => crc32cHex(value),
  }
}
