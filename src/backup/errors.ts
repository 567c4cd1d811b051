import { defineErrors } from '#lib/errors.ts'

export const { rows: backupErrorRows, failure: backupError } = defineErrors({
  BACKUP_OBJECT_DAMAGED: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'An object of the repository is damaged',
    message: '{object} is damaged: {reason}.',
    hint: 'Nothing was taken from it. `moonyetis backup verify` tells what else is; an older backup may be whole.',
  },
  BACKUP_OBJECT_MISSING: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'An object of the repository is missing',
    message: '{object} is missing.',
    hint: '`moonyetis backup verify` tells what else is; an older backup may be whole.',
  },
  BACKUP_KEY_NEEDED: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'The recovery key is needed',
    message: '{object} cannot be opened with the keys that are here.',
    hint: 'Give the recovery identity by MOONYETIS_BACKUP__IDENTITY_FILE, or the passphrase by MOONYETIS_BACKUP__PASSPHRASE_FILE.',
  },
  BACKUP_NOT_FOUND: {
    status: 404,
    exit: 1,
    retry: false,
    title: 'There is no such backup',
    message: 'There is no backup {what} in {repository}.',
    hint: '`moonyetis backup list` shows what is there.',
  },
  BACKUP_BUSY: {
    status: 409,
    exit: 3,
    retry: true,
    title: 'Another one is at work',
    message: '{what} is held by {holder} since {since}.',
    hint: 'Wait for it to end; a dead holder is passed over after {leaseSeconds} s.',
  },
  BACKUP_WAL_GAP: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'The write-ahead log has a gap',
    message: 'WAL is missing from {from} to {to} on timeline {timeline}.',
    hint: 'A new backup begins a whole chain again: `moonyetis backup full`.',
  },
})
