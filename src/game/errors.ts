import { defineErrors } from '#lib/errors.ts'

export const { rows: gameErrorRows, failure: gameError } = defineErrors({
  GAME_SEED_UNREADABLE: {
    status: 503,
    exit: 1,
    retry: false,
    title: 'Seed unreadable',
    message: 'A stored server seed could not be read.',
    hint: 'Check that .secrets/seed_keys holds every key that was ever in use; nothing was drawn.',
  },
  GAME_SEED_KEYS_INVALID: {
    status: 503,
    exit: 2,
    retry: false,
    title: 'Seed keys invalid',
    message: 'Seed key {kid} is {problem}.',
    hint: 'Put the key back into .secrets/seed_keys from the recovery kit; seeds sealed with it need it.',
  },
  GAME_SEATS_LEFT: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Old seeds remain in play',
    message: 'The database passes over {seats} accounts whose seeds must be retired after the restore.',
    hint: 'It is tried again. If this stays, look for long transactions on accounts, and run `moonyetis reconcile`.',
  },
  GAME_ACCOUNT_UNKNOWN: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Account not found',
    message: 'Account {accountId} is not in the ledger.',
    hint: 'Run `moonyetis reconcile`; a session may be newer than the database it is used on.',
  },
  GAME_ROUND_UNKNOWN: {
    status: 404,
    exit: 1,
    retry: false,
    title: 'Round not found',
    message: 'You have no round {id}.',
    hint: 'GET /api/game/rounds lists your rounds.',
  },
  INSUFFICIENT_BALANCE: {
    status: 402,
    exit: 1,
    retry: false,
    title: 'The balance does not cover the stake',
    message: 'The stake is {stake} chips and the balance is {balance}.',
    hint: 'Nothing was drawn or taken. Lower stakePerLine or lines.',
  },
})
