/**
 * One row per expected failure. Doors (HTTP, CLI, control sockets) turn a Failure into their own form from its row;
 * anything that is not a Failure is unknown, becomes INTERNAL and shows no text of its own.
 */
export interface ErrorRow {
  /** HTTP status. */
  status: number
  /** Exit number of the command line. */
  exit: number
  /** Whether the same request may succeed later without being changed. */
  retry: boolean
  /** Short and the same for every occurrence. */
  title: string
  /** What happened; `{fact}` is replaced by the fact of that name. */
  message: string
  /** What to do next; holes as in message. */
  hint?: string
}

export type Facts = Record<string, unknown>

export class Failure extends Error {
  override readonly name = 'Failure'
  readonly code: string
  readonly row: ErrorRow
  readonly facts: Facts
  readonly hint?: string

  constructor(code: string, row: ErrorRow, facts: Facts = {}, options: { cause?: unknown } = {}) {
    super(fillHoles(row.message, facts), options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.row = row
    this.facts = facts
    if (row.hint !== undefined) this.hint = fillHoles(row.hint, facts)
  }

  /** Whole seconds for a Retry-After header, when the thrower knew them. */
  get retryAfterSeconds(): number | undefined {
    const seconds = this.facts.retryAfterSeconds
    return typeof seconds === 'number' && Number.isFinite(seconds) && seconds >= 0
      ? Math.ceil(seconds)
      : undefined
  }
}

export interface DefinedErrors<T extends Record<string, ErrorRow>> {
  rows: T
  failure(code: keyof T & string, facts?: Facts, options?: { cause?: unknown }): Failure
}

/** Makes the throw helper of a pillar: `export const { rows, failure: ledgerError } = defineErrors({...})`. */
export function defineErrors<const T extends Record<string, ErrorRow>>(rows: T): DefinedErrors<T> {
  return {
    rows,
    failure: (code, facts, options) => new Failure(code, rows[code] as ErrorRow, facts, options),
  }
}

/** A fact that nobody gave stays visible as its hole, so that the mistake is found and nothing reads as `undefined`. */
function fillHoles(template: string, facts: Facts): string {
  return template.replace(/\{(\w+)\}/g, (hole, name: string) => {
    const fact = Object.hasOwn(facts, name) ? facts[name] : undefined
    return fact === undefined ? hole : factText(fact)
  })
}

function factText(fact: unknown): string {
  if (Array.isArray(fact)) return fact.map(factText).join(', ')
  if (fact instanceof Date) return fact.toISOString()
  if (fact instanceof Error) return fact.message
  return typeof fact === 'object' && fact !== null ? JSON.stringify(fact) : String(fact)
}

/** Failures that belong to no pillar. */
export const commonErrors = defineErrors({
  INTERNAL: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'Something failed inside',
    message: 'Something failed inside.',
    hint: 'Look for this request id in the log.',
  },
  USAGE: {
    status: 400,
    exit: 2,
    retry: false,
    title: 'Wrong usage',
    message: '{reason}',
    hint: 'See --help.',
  },
  CONFIG_INVALID: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'The configuration is not valid',
    message: 'The configuration is not valid:\n{problems}',
    hint: 'Mend the keys named above; `moonyetis config print` lists every key with its value and source.',
  },
  REFUSED: { status: 409, exit: 3, retry: false, title: 'Refused for safety', message: '{reason}' },
  VALIDATION: {
    status: 400,
    exit: 2,
    retry: false,
    title: 'The request is not valid',
    message: '{reason}',
    hint: 'Mend the fields named in errors; GET /docs shows what each route takes.',
  },
  BAD_REQUEST: {
    status: 400,
    exit: 2,
    retry: false,
    title: 'The request cannot be read',
    message: '{reason}',
  },
  UNAUTHENTICATED: {
    status: 401,
    exit: 1,
    retry: false,
    title: 'Sign-in needed',
    message: 'This needs a signed-in session.',
    hint: 'Sign in, then send the session cookie or `Authorization: Bearer TOKEN`.',
  },
  FORBIDDEN: {
    status: 403,
    exit: 1,
    retry: false,
    title: 'Not allowed',
    message: 'This session may not do that.',
  },
  NOT_FOUND: { status: 404, exit: 1, retry: false, title: 'Not found', message: 'There is no {what}.' },
  METHOD_NOT_ALLOWED: {
    status: 405,
    exit: 1,
    retry: false,
    title: 'Method not allowed',
    message: '{path} does not take {method}.',
    hint: 'Use {allow}.',
  },
  TIMEOUT: { status: 408, exit: 1, retry: true, title: 'The request took too long', message: '{reason}' },
  BODY_TOO_LARGE: {
    status: 413,
    exit: 1,
    retry: false,
    title: 'The body is too large',
    message: 'The body is larger than {limitBytes} bytes.',
  },
  UNSUPPORTED_MEDIA_TYPE: {
    status: 415,
    exit: 1,
    retry: false,
    title: 'This content type is not taken',
    message: 'The body came as {given}.',
    hint: 'Send it as {accepted}.',
  },
  CANCELLED: {
    status: 499,
    exit: 1,
    retry: true,
    title: 'Cancelled',
    message: 'It was cancelled; nothing that looks complete was left.',
  },
  UNAVAILABLE: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Not available now',
    message: '{reason}',
    hint: 'Try again shortly.',
  },
})

export const commonFailure = commonErrors.failure

/** Failures of the modules in this folder. */
export const libErrors = defineErrors({
  CONTROL_IN_USE: {
    status: 409,
    exit: 3,
    retry: false,
    title: 'The control socket is taken',
    message: 'Another process is listening on {path}.',
    hint: 'Stop it first: `moonyetis down`.',
  },
  CONTROL_TIMEOUT: {
    status: 504,
    exit: 1,
    retry: true,
    title: 'The role did not answer in time',
    message: 'The role behind {path} did not answer {route} within {timeoutMs} ms.',
  },
  CONTROL_BROKEN: {
    status: 502,
    exit: 1,
    retry: true,
    title: 'The role gave no usable answer',
    message: 'The role behind {path} gave no usable answer to {route}: {reason}.',
  },
  ROLE_NOT_RUNNING: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'The role is not running',
    message: 'Nothing is listening on {path}.',
    hint: 'Start it: `npm start`.',
  },
  CLOSING: {
    status: 503,
    exit: 1,
    retry: true,
    title: 'Shutting down',
    message: '{name} was not opened: the process is shutting down.',
  },
  CLOSE_INCOMPLETE: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'Not everything closed cleanly',
    message: 'Not everything closed cleanly: {steps}.',
    hint: 'The log names the cause of each step.',
  },
  PROCESS_STUCK: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'A process does not end',
    message: '{name} (pid {pid}) is still there after SIGKILL.',
    hint: 'It waits in the kernel, most often for a disk; see `ps -o stat,wchan -p {pid}`.',
  },
  SOCKET_DIRECTORY_UNSAFE: {
    status: 500,
    exit: 3,
    retry: false,
    title: 'The socket directory is not ours',
    message: '{path} is not a directory of this user with mode 0700.',
    hint: 'Remove it, or choose a shorter MOONYETIS_HOME so that sockets fit in the home.',
  },
  STATE_UNUSABLE: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'A state file cannot be used',
    message: '{path} cannot be used: {reason}.',
    hint: 'Move the file aside to start with an empty one; what it held (see its role) is lost then.',
  },
})

export const libFailure = libErrors.failure
