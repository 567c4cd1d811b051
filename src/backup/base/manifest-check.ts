import { crc32cHex, type ManifestFile, type ServerManifest } from '#postgres/wire/manifest.ts'
import { baseBackupError } from './errors.ts'
import type { IndexedFile } from './file-index.ts'

/** What the server's manifest calls a file of an archive: those of a tablespace lie below its link. */
function manifestPath(file: Pick<IndexedFile, 'archive' | 'path'>): string {
  return file.archive === 'base' ? file.path : `pg_tblspc/${file.archive}/${file.path}`
}

// So many faults name the trouble; a thousand lines would hide it.
const mostNamed = 5

/**
 * Proves that what came is what the server read: every file of its manifest with its size and checksum, no file beside
 * them, the label that makes it a backup first and the control file last.
 * @throws BACKUP_STREAM_WRONG naming the files
 */
export function requireAsManifest(files: readonly IndexedFile[], manifest: ServerManifest): void {
  const faults = faultsOf(files, manifest)
  if (faults.length === 0) return
  const more = faults.length > mostNamed ? ` and ${faults.length - mostNamed} more` : ''
  throw baseBackupError('BACKUP_STREAM_WRONG', { reason: faults.slice(0, mostNamed).join('; ') + more })
}

function faultsOf(files: readonly IndexedFile[], manifest: ServerManifest): string[] {
  const expected = new Map(manifest.files.map(file => [file.path, file]))
  const faults: string[] = []
  for (const file of files) {
    const path = manifestPath(file)
    const fault = faultOf(file, expected.get(path))
    expected.delete(path)
    if (fault) faults.push(`${path} ${fault}`)
  }
  for (const path of expected.keys()) faults.push(`${path} is missing`)
  return [...faults, ...orderFaults(files.filter(file => file.archive === 'base'))]
}

function faultOf(file: IndexedFile, expected: ManifestFile | undefined): string | undefined {
  if (!expected) return 'is in no manifest'
  if (file.bytes !== expected.bytes) return `has ${file.bytes} bytes instead of ${expected.bytes}`
  if (expected.checksumAlgorithm !== 'CRC32C') return 'has no CRC-32C in the manifest'
  return crc32cHex(file.crc) === expected.checksum ? undefined : 'does not fit its checksum'
}

function orderFaults(files: readonly IndexedFile[]): string[] {
  const faults: string[] = []
  if (files[0]?.path !== 'backup_label') faults.push('backup_label does not come first')
  // Written before the data it speaks of, a control file could claim more than is there.
  if (files.at(-1)?.path !== 'global/pg_control') faults.push('global/pg_control does not come last')
  return faults
}
