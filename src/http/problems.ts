import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { commonFailure, Failure } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { FieldError } from './validation.ts'

export const problemMediaType = 'application/problem+json'

/** RFC 9457 problem details. */
export const problemSchema = Type.Object({
  type: Type.String({ description: 'Where this kind of problem is described.' }),
  title: Type.String({ description: 'The same for every occurrence of this code.' }),
  status: Type.Integer({ minimum: 400, maximum: 599 }),
  code: Type.String({ description: 'What programs branch on.' }),
  detail: Type.String({ description: 'What happened this time.' }),
  requestId: Type.String({ description: 'As in the x-request-id header; the log knows it too.' }),
  hint: Type.Optional(Type.String({ description: 'What to do next.' })),
  errors: Type.Optional(
    Type.Array(Type.Object({ field: Type.String(), message: Type.String() }), {
      description: 'Each offending field of the request.',
    }),
  ),
})

/** The problem document as JSON text. */
export function problemJson(failure: Failure, requestId: string): string {
  return JSON.stringify({
    type: `/docs#${failure.code}`,
    title: failure.row.title,
    status: failure.row.status,
    code: failure.code,
    detail: failure.message,
    requestId,
    hint: failure.hint,
    errors: failure.facts.errors as FieldError[] | undefined,
  })
}

/** Headers that belong to a failure beside its document. */
export function problemHeaders(failure: Failure): Record<string, string> {
  const { retryAfterSeconds } = failure
  const { allow } = failure.facts
  return {
    'content-type': problemMediaType,
    ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    ...(failure.code === 'METHOD_NOT_ALLOWED' && typeof allow === 'string' ? { allow } : {}),
    // RFC 9110, section 11.6.1: a 401 names how to sign in.
    ...(failure.row.status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
  }
}

export function sendFailure(reply: FastifyReply, failure: Failure): FastifyReply {
  return reply
    .code(failure.row.status)
    .headers(problemHeaders(failure))
    .send(problemJson(failure, reply.request.id))
}

/** Fastify's error handler: whatever was thrown leaves as a problem; unknown errors leave as INTERNAL, without text. */
export function createErrorHandler(log: Log) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const failure = toFailure(error, request)
    logFailure(log, failure, request)
    keepReadable(failure, request, reply)
    sendFailure(reply, failure)
  }
}

/** A Failure passes; Fastify's own refusals get our rows; anything else is INTERNAL with its cause. */
export function toFailure(error: unknown, request: FastifyRequest): Failure {
  if (error instanceof Failure) return error
  const { code, statusCode } = (
    typeof error === 'object' && error !== null ? error : {}
  ) as Partial<FastifyError>
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return commonFailure('BODY_TOO_LARGE', { limitBytes: request.routeOptions.bodyLimit })
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_CTP_EMPTY_TYPE': {
      const given = request.headers['content-type'] === undefined ? 'no content type' : 'another content type'
      return commonFailure('UNSUPPORTED_MEDIA_TYPE', { given, accepted: 'application/json' })
    }
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'ECONNRESET':
      if (code === 'ECONNRESET' && !request.raw.destroyed) break
      return commonFailure('BAD_REQUEST', { reason: 'The body is shorter or longer than announced.' })
    case 'FST_ERR_BAD_URL':
      return commonFailure('BAD_REQUEST', { reason: 'The path is not valid percent-encoding.' })
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return commonFailure('NOT_FOUND', { what: 'resource with a name this long' })
  }
  if (code?.startsWith('FST_ERR_') && statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return commonFailure('BAD_REQUEST', { reason: 'The request cannot be read.' }, { cause: error })
  }
  return commonFailure('INTERNAL', {}, { cause: error })
}

function logFailure(log: Log, failure: Failure, request: FastifyRequest): void {
  const { status } = failure.row
  const facts = {
    requestId: request.id,
    method: request.method,
    route: request.routeOptions.url,
    code: failure.code,
  }
  if (failure.code === 'INTERNAL') log.error({ ...facts, err: failure.cause ?? failure }, 'request failed')
  else if (status >= 500) log.warn({ ...facts, err: failure }, 'request could not be served')
  else log.debug(facts, 'request refused')
}

// Closing while the client still sends makes its system throw our answer away (RST). Up to this much is read and
// dropped instead, and the connection lives on; a larger body is not worth the bandwidth.
const droppedBodyLimitBytes = 1024 * 1024

function keepReadable(failure: Failure, request: FastifyRequest, reply: FastifyReply): void {
  const { 'content-length': contentLength, 'transfer-encoding': transferEncoding } = request.raw.headers
  const isRead = request.raw.complete || (contentLength === undefined && transferEncoding === undefined)
  const isDroppable = failure.code === 'BODY_TOO_LARGE' && Number(contentLength) <= droppedBodyLimitBytes
  // Fastify closes after any body error; one that is read to its end leaves nothing in the way of the next request.
  if (isRead || isDroppable) reply.removeHeader('connection')
  else reply.header('connection', 'close')
}
