import { auditErrorRows } from '#audit/errors.ts'
import { backupErrorRows } from '#backup/errors.ts'
import { gameErrorRows } from '#game/errors.ts'
import { identityErrorRows } from '#identity/errors.ts'
import { ledgerErrorRows } from '#ledger/errors.ts'
import type { ErrorRow } from '#lib/errors.ts'
import { databaseErrorRows } from '#postgres/client/errors.ts'

/** Every expected failure of the pillars that HTTP may answer with; /docs lists them. */
export const errorRows: Record<string, ErrorRow> = {
  ...databaseErrorRows,
  ...ledgerErrorRows,
  ...gameErrorRows,
  ...identityErrorRows,
  ...auditErrorRows,
  ...backupErrorRows,
}
