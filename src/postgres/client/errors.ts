import { defineErrors } from '#lib/errors.ts'

export const { rows: databaseErrorRows, failure: databaseError } = defineErrors({
  DATABASE_UNAVAILABLE: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'The database is not reachable',
    message: 'The database is not reachable right now.',
    hint: 'Try again in {retryAfterSeconds} s.',
  },
  DATABASE_OUTCOME_UNKNOWN: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Whether it was done is not known yet',
    message: 'The connection to the database was lost while it was working; the outcome is not known yet.',
    hint: 'Send the same request with the same Idempotency-Key again: it is never done twice.',
  },
  MIGRATION_INVALID: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'The migrations folder is not valid',
    message: '{problem}',
    hint: 'Migrations are named NNNN_name.sql, numbered from 0001 without a gap, and never change once released.',
  },
  MIGRATION_FAILED: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'A migration failed',
    message: 'Migration {name} failed and was rolled back: {reason}',
    hint: 'Mend the cause named above and run `moonyetis migrate` again; migrations before it stay applied.',
  },
  SCHEMA_UNFIT: {
    status: 503,
    exit: 3,
    retry: false,
    title: 'This program and this database do not fit',
    message: '{problem}',
    hint: '{mend}',
  },
  CHAIN_MISMATCH: {
    status: 503,
    exit: 3,
    retry: false,
    title: 'This database belongs to another chain',
    message: 'This database was created for chain {recorded}, but the configuration says {configured}.',
    hint: 'Set MOONYETIS_CHAIN={recorded}, or use a fresh home and fresh keys for {configured}.',
  },
})
