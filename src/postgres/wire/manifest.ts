import { createHash } from 'node:crypto'
import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { wireError } from './errors.ts'
import { decodePath } from './paths.ts'

/** PostgreSQL's backup_manifest (chapter 67, Backup Manifest Format), version 1 (15 and 16) or 2 (17 and newer). */
export interface ServerManifest {
  version: number
  /** From version 2 on. It has 64 bits and therefore stays text. */
  systemIdentifier?: string
  files: ManifestFile[]
  /** What has to be replayed to reach consistency. */
  walRanges: { timeline: number; start: Lsn; end: Lsn }[]
}

export interface ManifestFile {
  /** Relative, with slashes. Bytes that are no UTF-8 are read as Latin-1, as TarReader does. */
  path: string
  bytes: number
  /** CRC32C, SHA224, SHA256, SHA384 or SHA512; absent when the backup was made without. */
  checksumAlgorithm?: string
  /** Hexadecimal, as it stands in the manifest: see crc32cHex. */
  checksum?: string
}

const checksumKey = Buffer.from('"Manifest-Checksum"')

/** Verifies the manifest's own checksum and shape. @throws MANIFEST_INVALID */
export function parseServerManifest(bytes: Uint8Array): ServerManifest {
  const text = verifiedText(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  const json = readJson(text)
  const version = json['PostgreSQL-Backup-Manifest-Version']
  if (version !== 1 && version !== 2) throw invalid(`version ${String(version)} is not known`)
  const systemIdentifier = systemIdentifierIn(text)
  if (version >= 2 && systemIdentifier === undefined) throw invalid('it has no system identifier')
  return {
    version,
    ...(systemIdentifier === undefined ? {} : { systemIdentifier }),
    files: uniquePaths(objectsIn(json, 'Files').map(fileOf)),
    walRanges: objectsIn(json, 'WAL-Ranges').map(rangeOf),
  }
}

/** A CRC-32C as manifests write it: the four bytes as a little-endian machine stores them. */
export function crc32cHex(value: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes.toString('hex')
}

type Json = Record<string, unknown>

/** The last line holds the SHA-256 of every byte before it. */
function verifiedText(bytes: Buffer): string {
  const end = bytes.lastIndexOf(checksumKey)
  if (end < 1 || bytes[end - 1] !== 0x0a) throw invalid('it does not end with its checksum')
  const line = bytes.toString('latin1', end)
  const [, said] = /^"Manifest-Checksum": "([0-9a-f]{64})"\}\s*$/.exec(line) ?? []
  if (!said) throw invalid('it does not end with its checksum')
  const sum = createHash('sha256').update(bytes.subarray(0, end)).digest('hex')
  if (sum !== said) throw invalid('its checksum does not fit')
  return bytes.toString('utf8')
}

function readJson(text: string): Json {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw invalid((error as Error).message)
  }
}

// JSON.parse would round it. It stands before the files, where no path can look like it.
function systemIdentifierIn(text: string): string | undefined {
  const head = text.slice(0, Math.max(0, text.indexOf('"Files"')))
  return /"System-Identifier":\s*(\d{1,20})\s*,/.exec(head)?.[1]
}

function objectsIn(json: Json, key: string): Json[] {
  const list = json[key]
  if (!Array.isArray(list)) throw invalid(`it has no ${key}`)
  return list.map(one => {
    if (typeof one !== 'object' || one === null) throw invalid(`${key} holds something else`)
    return one
  })
}

function fileOf(entry: Json): ManifestFile {
  const path = pathOf(entry)
  const bytes = entry.Size
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 0)
    throw invalid(`${path} has no size`)
  const checksumAlgorithm = entry['Checksum-Algorithm']
  const checksum = entry.Checksum
  if (checksumAlgorithm === undefined && checksum === undefined) return { path, bytes }
  if (typeof checksumAlgorithm !== 'string' || typeof checksum !== 'string' || !/^[0-9a-f]+$/.test(checksum))
    throw invalid(`the checksum of ${path} is not complete`)
  return { path, bytes, checksumAlgorithm, checksum }
}

function pathOf(entry: Json): string {
  const { Path: plain, 'Encoded-Path': encoded } = entry
  if (typeof plain === 'string' && plain !== '' && encoded === undefined) return plain
  if (typeof encoded === 'string' && /^(?:[0-9a-f]{2})+$/i.test(encoded) && plain === undefined)
    return decodePath(Buffer.from(encoded, 'hex'))
  throw invalid('a file has no path')
}

function uniquePaths(files: ManifestFile[]): ManifestFile[] {
  if (new Set(files.map(file => file.path)).size !== files.length) throw invalid('a file is in it twice')
  return files
}

function rangeOf(entry: Json) {
  const { Timeline: timeline, 'Start-LSN': startText, 'End-LSN': endText } = entry
  const start = parseLsn(String(startText))
  const end = parseLsn(String(endText))
  if (typeof timeline !== 'number' || start === undefined || end === undefined || end < start)
    throw invalid('a range of WAL is not complete')
  return { timeline, start, end }
}

function invalid(reason: string) {
  return wireError('MANIFEST_INVALID', { reason })
}
