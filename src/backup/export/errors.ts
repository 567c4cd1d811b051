import { defineErrors } from '#lib/errors.ts'

export const { rows: exportErrorRows, failure: exportError } = defineErrors({
  EXPORT_TOOL_MISSING: {
    status: 501,
    exit: 1,
    retry: false,
    title: 'No pg_dump for this server was found',
    message: 'An SQL export of PostgreSQL {major} needs pg_dump of version {major} or newer. {found}',
    hint: 'Install it (Debian: `apt-get install postgresql-client-{major}`; macOS: `brew install libpq`), or name its directory by MOONYETIS_POSTGRES_BIN. The PostgreSQL that npm installs has none. `moonyetis backup full` needs no tool.',
  },
  EXPORT_FAILED: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'The SQL export failed',
    message: 'The SQL export failed and nothing was kept: {reason}',
    hint: 'Mend the cause named above and export again.',
  },
  EXPORT_EXISTS: {
    status: 409,
    exit: 3,
    retry: false,
    title: 'The file of the export is there already',
    message: '{path} is there already; an export never replaces a file.',
    hint: 'Move it away, or choose another name by --out.',
  },
})
