import { Failure } from '#lib/errors.ts'
import { storageError } from './errors.ts'

export function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}

const full: Record<string, string> = {
  ENOSPC: 'no space is left on its disk',
  EDQUOT: 'the disk quota of this user is used up',
  EFBIG: 'the file would be larger than this file system or user may have',
}

const away: Record<string, string> = {
  EIO: 'the disk reports an error',
  ESTALE: 'the network file system has been replaced',
  ETIMEDOUT: 'the network file system does not answer',
  ENODEV: 'its device is gone',
  ENXIO: 'its device is gone',
  EBUSY: 'it is busy',
  EMFILE: 'this process has too many files open',
  ENFILE: 'this machine has too many files open',
}

const refused: Record<string, [reason: string, mend: string]> = {
  EROFS: [
    'its file system is mounted read-only',
    'Mount it for writing; after a disk error the kernel changes it to read-only, see `dmesg`.',
  ],
  EACCES: [
    'this user may not write or read there',
    'Give the directory to the user that runs the program: `chown -R USER DIRECTORY`.',
  ],
  EPERM: [
    'this user may not do that there, or the file system has no hard links',
    'Give the directory to the user that runs the program, on a file system with hard links (not FAT).',
  ],
  ENOTSUP: ['the file system has no hard links', 'Choose a directory on ext4, XFS, ZFS, APFS or NFS.'],
  ENOTDIR: [
    'a file stands where a directory is needed',
    'Choose a directory that nothing else writes into, or move that file away.',
  ],
  EISDIR: [
    'a directory stands where an object is needed',
    'Choose a directory that nothing else writes into, or move that directory away.',
  ],
  ENAMETOOLONG: ['the path is too long for the file system', 'Choose a directory with a shorter path.'],
  ELOOP: ['its path leads round in symbolic links', 'Mend the symbolic links.'],
}

/** The failure for an error of the file system; anything else is returned as it came. */
export function diskFailure(error: unknown, facts: { key: string; storage: string }): unknown {
  if (error instanceof Failure) return error
  const code = codeOf(error) ?? ''
  const options = { cause: error }
  if (code === 'ENOENT') return storageError('STORAGE_NOT_FOUND', facts, options)
  if (full[code]) return storageError('STORAGE_FULL', { ...facts, reason: full[code] }, options)
  if (away[code]) return storageError('STORAGE_UNAVAILABLE', { ...facts, reason: away[code] }, options)
  const words = refused[code === 'EOPNOTSUPP' ? 'ENOTSUP' : code]
  if (words === undefined) return error
  const [reason, mend] = words
  return storageError(
    'STORAGE_REFUSED',
    { ...facts, reason: facts.key === '' ? reason : `${reason} (${facts.key})`, mend },
    options,
  )
}
