import { defineErrors } from '#lib/errors.ts'

export const { rows: baseBackupErrorRows, failure: baseBackupError } = defineErrors({
  BACKUP_STREAM_WRONG: {
    status: 500,
    exit: 1,
    retry: true,
    title: 'The backup that came is not what the server sent',
    message: 'The backup does not fit what the server says of it: {reason}.',
    hint: 'Nothing of it counts as a backup. Take it again; if this comes back, memory or network change bytes.',
  },
  BACKUP_WRONG_SYSTEM: {
    status: 409,
    exit: 3,
    retry: false,
    title: 'The repository is of another database',
    message: '{repository} keeps database system {stored}; this server is {systemIdentifier}.',
    hint: 'Give each database a repository of its own by BACKUP_REPOSITORY.',
  },
  BACKUP_CANCELLED: {
    status: 409,
    exit: 1,
    retry: true,
    title: 'The backup was cancelled',
    message: 'The backup {id} was cancelled; nothing of it counts as a backup.',
  },
  BACKUP_EXISTS: {
    status: 409,
    exit: 3,
    retry: true,
    title: 'The backup is there already',
    message: 'An object of another backup lies at {object}.',
    hint: 'Two backups were given one name. Take it again.',
  },
  BACKUP_WAL_LATE: {
    status: 504,
    exit: 1,
    retry: true,
    title: 'The end of the write-ahead log did not come',
    message:
      'The write-ahead log up to {lsn} did not come within {waitedSeconds} s, so the backup cannot be used.',
    hint: 'Is the archive running, and does the server write? Take the backup again.',
  },
})
