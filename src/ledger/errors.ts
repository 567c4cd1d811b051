import { defineErrors } from '#lib/errors.ts'

export const { rows: ledgerErrorRows, failure: ledgerError } = defineErrors({
  LEDGER_BUSY: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Too many spins are waiting',
    message: 'Too many spins are waiting to be settled.',
    hint: 'Nothing was drawn or taken. Send it again in {retryAfterSeconds} s, with the same Idempotency-Key.',
  },
  LEDGER_CLOSING: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Shutting down',
    message: 'The server is shutting down and takes no new spins.',
    hint: 'Nothing was drawn or taken. Send it again in {retryAfterSeconds} s, with the same Idempotency-Key.',
  },
  IDEMPOTENCY_KEY_MISSING: {
    status: 400,
    exit: 1,
    retry: false,
    title: 'Idempotency-Key is missing',
    message: 'The header Idempotency-Key is missing.',
    hint: 'Send one fresh key per intended spin or rotation, such as a UUID, and the same key when you repeat it.',
  },
  IDEMPOTENCY_KEY_INVALID: {
    status: 400,
    exit: 1,
    retry: false,
    title: 'Idempotency-Key is not valid',
    message: 'The header Idempotency-Key {problem}.',
    hint: 'Use 1 to 255 visible ASCII characters, in double quotes or bare, such as "8e03978e-40d5-43dd-bc93-6894a57f9324".',
  },
  IDEMPOTENCY_KEY_REUSED: {
    status: 422,
    exit: 1,
    retry: false,
    title: 'Idempotency-Key was used for another request',
    message: 'This Idempotency-Key was used before with another payload.',
    hint: 'Use a fresh key for a new request; repeat the first payload to see its answer again.',
  },
})
