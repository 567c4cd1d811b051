import { defineErrors } from '#lib/errors.ts'

export const { rows: drillErrorRows, failure: drillError } = defineErrors({
  DRILL_FAILED: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'The restore drill failed',
    message: 'The restore drill of {backupId} failed at {step}: {reason}.',
    hint: 'Take a new backup (`moonyetis backup full`) and drill it; `moonyetis backup verify` tells which objects are damaged.',
  },
  DRILL_FOUND: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'A restored database is not as it should be',
    message: '{reason}',
  },
})
