import { defineErrors } from '#lib/errors.ts'

export const { rows: replicationErrorRows, failure: replicationError } = defineErrors({
  TOPOLOGY_INVALID: {
    status: 500,
    exit: 3,
    retry: false,
    title: 'The topology record is not valid',
    message: '{path} is not a valid topology record: {reason}.',
    hint: 'It says who may be promoted, so nothing is guessed. Put back what it held, or, with this one data directory being the right one, move the file aside and start again.',
  },
  TOPOLOGY_OTHER_SYSTEM: {
    status: 500,
    exit: 3,
    retry: false,
    title: 'The data directory is another database',
    message: '{path} is about database system {recorded}, but {dataDirectory} is system {found}.',
    hint: 'If this data directory is the right one (restored or copied here), move {path} aside and start again; else put the right one back.',
  },
  TOPOLOGY_DATA_MISSING: {
    status: 500,
    exit: 3,
    retry: false,
    title: 'The data directory is gone',
    message: '{path} is about database system {recorded}, but {dataDirectory} is not there.',
    hint: 'Is its disk mounted? Else restore a backup: `moonyetis backup restore --to DIR`. To begin with an empty database, move {path} aside.',
  },
})
