import { defineErrors } from '#lib/errors.ts'

export const { rows: auditErrorRows, failure: auditError } = defineErrors({
  AUDIT_UNAVAILABLE: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'The audit journal cannot be written',
    message: 'The audit journal cannot be written, so nothing that belongs in it is done.',
    hint: 'The log names the cause; most often the disk under <home>/state is full.',
  },
  AUDIT_JOURNAL_BEHIND: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'The audit journal is older than its copy',
    message: 'Journal {source} ends at event {local}, but the database already holds events up to {copied}.',
    hint: 'An older state/audit.sqlite was put back: move it aside, so that a new journal with a name of its own starts.',
  },
})
