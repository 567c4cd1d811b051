import { defineErrors } from '#lib/errors.ts'

export const { rows: filesErrorRows, failure: filesError } = defineErrors({
  FILES_TOO_LARGE: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'The files of the home are too large for a backup',
    message: '{directory} holds more than {limitMegabytes} MB; the largest is {path} with {megabytes} MB.',
    hint: 'These directories are for keys, certificates and secrets. Move away what else is there.',
  },
  FILES_UNREADABLE: {
    status: 500,
    exit: 1,
    retry: true,
    title: 'A file cannot be backed up',
    message: '{path} cannot be backed up: {reason}.',
    hint: 'Mend it, or move it out of the directory, and take the backup again: none is made without it.',
  },
  FILES_TARGET_OCCUPIED: {
    status: 409,
    exit: 3,
    retry: false,
    title: 'There is something already',
    message: '{path} is there already; files are restored only to where nothing is.',
    hint: 'Choose an empty directory, or move away what is there.',
  },
  FILES_LEAD_OUT: {
    status: 500,
    exit: 3,
    retry: false,
    title: 'The files of the backup lead out of their directory',
    message: '{path} of the backup lies behind a link; nothing was written.',
    hint: 'No backup of this program holds such a path. Look at who could write into the repository with its key.',
  },
  FILES_NOT_IN_BACKUP: {
    status: 404,
    exit: 1,
    retry: false,
    title: 'The backup has no such files',
    message: 'The backup {id} has no {what}.',
    hint: '`moonyetis backup list` shows what each backup holds.',
  },
})
