import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import { describe, timeSchema } from '#http/schemas.ts'
import type { RoutePlugin } from '#http/types.ts'
import type { Job, JobKind } from './jobs/jobs.ts'
import type { BackupStatus } from './status.ts'

/** The archive role, as these routes need it; the role hands it in. */
export interface ArchiveRole {
  /** @throws ROLE_NOT_RUNNING (503) */
  status(): Promise<BackupStatus>
  /** @throws BACKUP_BUSY (409), ROLE_NOT_RUNNING (503) */
  start(job: { kind: JobKind; args: string[]; by: string }): Promise<Job>
}

export interface BackupRoutes {
  archive: ArchiveRole
  /** Who may look. @throws UNAUTHENTICATED, FORBIDDEN */
  mayRead(request: FastifyRequest): boolean
  /** Who may act; gives the name for the journal. @throws UNAUTHENTICATED, FORBIDDEN */
  operator(request: FastifyRequest): string
  /** Writes down who started what, before it is started. */
  record(event: { actor: string; action: string; target: string; detail: Record<string, string> }): void
}

const tags = ['monitoring']
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) =>
  Type.Union([schema, Type.Null()])
const text = Type.String()
const lsn = Type.String({ description: 'Position in the write-ahead log, such as 0/5B000028.' })

const jobSchema = Type.Object(
  {
    id: text,
    kind: Type.String({ description: 'full, db, files, drill, verify or prune.' }),
    by: Type.String({ description: 'Who asked: schedule, first, gap, or an operator.' }),
    startedAt: timeSchema,
    finishedAt: Type.Optional(timeSchema),
    state: Type.String({ description: 'running, done, failed or cancelled.' }),
    progress: Type.Optional(
      Type.Object(
        {},
        { additionalProperties: true, description: 'What the verb last said of its progress.' },
      ),
    ),
    result: Type.Optional(
      Type.Object({}, { additionalProperties: true, description: 'What the verb said at its end.' }),
    ),
    error: Type.Optional(Type.Object({ code: text, message: text, hint: Type.Optional(text) })),
  },
  { description: 'A backup, drill, check or pruning as a process.' },
)

const backupSchema = Type.Object({
  id: text,
  kind: Type.String({ description: 'full (database and files), db or files.' }),
  label: nullable(text),
  startedAt: timeSchema,
  finishedAt: timeSchema,
  rawBytes: Type.Integer({ description: 'Bytes before compression.' }),
  storedBytes: Type.Integer({ description: 'Bytes in the repository.' }),
  verifiedAt: nullable(timeSchema),
  pinned: Type.Boolean({ description: 'Whether pruning leaves it alone.' }),
  database: nullable(
    Type.Object({
      systemIdentifier: text,
      timeline: Type.Integer(),
      start: lsn,
      stop: lsn,
      stopTime: timeSchema,
    }),
  ),
})

const drillSchema = Type.Object({
  id: text,
  backupId: text,
  startedAt: timeSchema,
  finishedAt: timeSchema,
  ok: Type.Boolean(),
  rtoSeconds: Type.Number({
    description: 'Seconds until the restored server answered, everything replayed.',
  }),
  rpoSeconds: Type.Optional(
    Type.Number({ description: 'Age of the newest canary that came back, at the moment the drill began.' }),
  ),
  restoredBytes: Type.Integer(),
  megabytesPerSecond: Type.Number(),
  replayedSegments: Type.Integer(),
  replayedTo: Type.Optional(lsn),
  steps: Type.Array(Type.Object({ name: text, ok: Type.Boolean(), seconds: Type.Number(), detail: text })),
})

const statusSchema = Type.Object({
  repository: Type.String({ description: 'Where backups go.' }),
  walMode: Type.String({ description: 'async or sync.' }),
  archiver: Type.Object(
    {},
    { additionalProperties: true, description: 'The WAL receiver: state, positions, spool.' },
  ),
  canary: Type.Object({
    sequence: nullable(text),
    writtenAt: nullable(timeSchema),
    lsn: nullable(lsn),
    lastError: nullable(text),
  }),
  schedule: Type.Array(
    Type.Object({
      name: text,
      pattern: text,
      timezone: text,
      next: nullable(timeSchema),
      lastTried: nullable(timeSchema),
    }),
  ),
  running: nullable(jobSchema),
  jobs: Type.Array(jobSchema),
  backups: Type.Array(backupSchema),
  lastBackup: nullable(backupSchema),
  lastVerified: nullable(backupSchema),
  lastDrill: nullable(drillSchema),
})

const readProblems = {
  401: 'UNAUTHENTICATED: sign in as operator.',
  403: 'FORBIDDEN: the role is not enough.',
}
const actProblems = { ...readProblems, 409: 'BACKUP_BUSY: another one runs.' }

/** GET and POST /api/monitoring/backups, POST /api/monitoring/backups/drill. */
export const backupRoutes: RoutePlugin<BackupRoutes> = async (app, options) => {
  const { archive, mayRead, operator, record } = options

  app.get(
    '/api/monitoring/backups',
    { schema: readSchema, onRequest: async request => void mayRead(request) },
    () => archive.status(),
  )

  app.post(
    '/api/monitoring/backups',
    { schema: startSchema, onRequest: async request => void operator(request) },
    (request, reply) => {
      const { kind = 'full', label } = request.body ?? {}
      return start(request, reply, kind, label === undefined ? [] : ['--label', label])
    },
  )

  app.post(
    '/api/monitoring/backups/drill',
    { schema: drillStartSchema, onRequest: async request => void operator(request) },
    (request, reply) => {
      const { id } = request.body ?? {}
      return start(request, reply, 'drill', id === undefined ? [] : ['--id', id])
    },
  )

  async function start(
    request: FastifyRequest,
    reply: { code(status: 202): unknown },
    kind: JobKind,
    args: string[],
  ): Promise<Job> {
    const by = operator(request)
    record({ actor: by, action: 'backup.started', target: kind, detail: { arguments: args.join(' ') } })
    const job = await archive.start({ kind, args, by })
    reply.code(202)
    return job
  }
}

const readSchema = describe({
  summary: 'Backups, the WAL archive, schedule and drills',
  description:
    'What is in the repository, how far the write-ahead log is archived, and what the last drill proved.',
  tags,
  session: 'operator',
  response: { 200: statusSchema },
  problems: readProblems,
})

// A label or an id becomes an argument of a verb: its first character can be no dash.
const argumentPattern = '^[A-Za-z0-9][A-Za-z0-9 ._:-]*$'

const startSchema = {
  ...describe({
    summary: 'Take a backup now',
    description: 'Starts a job and answers at once; its progress is in GET /api/monitoring/backups.',
    tags,
    session: 'operator',
    response: { 202: jobSchema },
    problems: actProblems,
  }),
  body: Type.Optional(
    Type.Object(
      {
        kind: Type.Optional(
          Type.Union([Type.Literal('full'), Type.Literal('db'), Type.Literal('files')], {
            description: 'full is the database and the files.',
          }),
        ),
        label: Type.Optional(
          Type.String({
            minLength: 1,
            maxLength: 100,
            pattern: argumentPattern,
            description:
              'What it is for: letters, digits, spaces and . _ : -, beginning with a letter or digit.',
          }),
        ),
      },
      { additionalProperties: false },
    ),
  ),
}

const drillStartSchema = {
  ...describe({
    summary: 'Prove a backup by restoring it',
    description: 'Restores into a scratch instance, replays, checks and deletes it again. Answers at once.',
    tags,
    session: 'operator',
    response: { 202: jobSchema },
    problems: actProblems,
  }),
  body: Type.Optional(
    Type.Object(
      {
        id: Type.Optional(
          Type.String({
            minLength: 1,
            maxLength: 100,
            pattern: argumentPattern,
            description: 'A backup as in the list; without it the newest.',
          }),
        ),
      },
      { additionalProperties: false },
    ),
  ),
}
