import { defineErrors } from '#lib/errors.ts'

export const { rows: drillErrorRows, failure: drillError } = defineErrors({
  DRILL_FOUND: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'A restored database is not as it should be',
    message: '{reason}',
  },
})
