import { defineErrors } from '#lib/errors.ts'

/** Expected failures of starting, stopping and commanding the roles. */
export const { rows: roleErrors, failure: roleError } = defineErrors({
  NODE_TOO_OLD: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'This Node is too old',
    message: 'MoonYetis needs Node {wanted} or newer, this is {found}.',
    hint: 'Use `npm start` or `npx moonyetis`, which bring their own Node.',
  },
  ALREADY_RUNNING: {
    status: 409,
    exit: 3,
    retry: false,
    title: 'Already running',
    message: 'MoonYetis is already running on {home} (process {pid}).',
    hint: 'Stop it with `npx moonyetis down`, or give this one its own MOONYETIS_HOME and PORT.',
  },
  ROLE_FAILED: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'A role did not start',
    message: '{role} did not start: {reason}.',
    hint: 'Its log is {log}.',
  },
  DATABASE_URL_MISSING: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'No database address',
    message: 'MOONYETIS_TOPOLOGY is external, but DATABASE_URL is not set.',
    hint: 'Set DATABASE_URL=postgres://moonyetis_app@HOST:5432/moonyetis_slots, or leave MOONYETIS_TOPOLOGY out.',
  },
  NO_UNPRIVILEGED_USER: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'No unprivileged user',
    message: 'Started as root, but there is no user to run as: {reason}.',
    hint: 'Make one with `useradd --system moonyetis`, or start as an ordinary user.',
  },
  HOME_NOT_OURS: {
    status: 500,
    exit: 3,
    retry: false,
    title: 'The home belongs to root',
    message: '{home} belongs to root and does not look like a MoonYetis home, so it is left alone.',
    hint: 'Choose an empty or new directory as MOONYETIS_HOME, or chown it to {user}.',
  },
  HOME_UNUSABLE: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'The home cannot be used',
    message: '{home} cannot be used: {reason}.',
    hint: 'Set MOONYETIS_HOME to a directory that this user may write.',
  },
  PLACE_UNUSABLE: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'No place for the program',
    message: '{user} cannot use the program in {directory}: {reason}.',
    hint: 'Clone into a directory that every user may read, such as /opt/moonyetis.',
  },
})
