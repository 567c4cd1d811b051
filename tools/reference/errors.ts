import { archiveErrorRows } from '#backup/archive/errors.ts'
import { baseBackupErrorRows } from '#backup/base/errors.ts'
import { drillErrorRows } from '#backup/drill/errors.ts'
import { exportErrorRows } from '#backup/export/errors.ts'
import { filesErrorRows } from '#backup/files/errors.ts'
import { restoreErrorRows } from '#backup/restore/errors.ts'
import { rows as httpErrorRows } from '#http/errors.ts'
import { commonErrors, type ErrorRow, libErrors } from '#lib/errors.ts'
import { postgresServerErrors } from '#postgres/server/errors.ts'
import { wireErrorRows } from '#postgres/wire/errors.ts'
import { replicationErrorRows } from '#replication/errors.ts'
import { errorRows } from '#roles/error-rows.ts'
import { roleErrors } from '#roles/errors.ts'
import { storageErrorRows } from '#storage/errors.ts'
import { code, page, table } from './text.ts'

const rows: Record<string, ErrorRow> = {
  ...commonErrors.rows,
  ...libErrors.rows,
  ...httpErrorRows,
  ...errorRows,
  ...postgresServerErrors,
  ...wireErrorRows,
  ...storageErrorRows,
  ...archiveErrorRows,
  ...baseBackupErrorRows,
  ...filesErrorRows,
  ...restoreErrorRows,
  ...drillErrorRows,
  ...exportErrorRows,
  ...replicationErrorRows,
  ...roleErrors,
}

/** Every expected failure, by code. */
export function errorsPage(): string {
  const sorted = Object.entries(rows).sort(([a], [b]) => (a < b ? -1 : 1))
  const intro = `Every failure that the program expects has one row. Over HTTP it is \`application/problem+json\` (RFC 9457) with this
\`code\` and status; on the command line it is one line on standard error and this exit number. \`{names}\` are filled in.
Exit numbers: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused for safety.
"Again" says whether the same request may succeed later without being changed.`
  return page('Errors', intro, [
    table(['Code', 'HTTP', 'Exit', 'Again', 'What happened', 'What to do'], sorted.map(errorRow)),
  ])
}

function errorRow([name, row]: [string, ErrorRow]): string[] {
  const { status, exit, retry, message, hint = '' } = row
  return [code(name), String(status), String(exit), retry ? 'yes' : 'no', message, hint]
}
