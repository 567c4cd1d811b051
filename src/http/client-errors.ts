import { randomUUID } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { commonFailure, type Failure } from '#lib/errors.ts'
import { httpError } from './errors.ts'
import { problemHeaders, problemJson } from './problems.ts'

/**
 * Answers bytes that are no HTTP request: there is no request object, so the problem is written to the socket by hand
 * and the connection ends. `headers` are the security headers; `count` gets the failure's code.
 */
export function createClientErrorHandler(headers: Record<string, string>, count: (code: string) => void) {
  return (error: NodeJS.ErrnoException, socket: Socket): void => {
    if (error.code === 'ECONNRESET' || !socket.writable || answerHasBegun(socket)) {
      socket.destroy()
      return
    }
    const failure = parseFailure(error)
    count(failure.code)
    socket.end(rawAnswer(failure, headers))
    // Whatever the client still sends is not read; without this a peer that never closes would hold the socket.
    setTimeout(() => socket.destroy(), lingerMs).unref()
  }
}

/** Answers an Expect header other than 100-continue, which Node would refuse with an empty 417. */
export function createExpectationHandler(headers: Record<string, string>) {
  return (_request: IncomingMessage, response: ServerResponse): void => {
    const failure = httpError('EXPECTATION_FAILED')
    const requestId = randomUUID()
    const body = problemJson(failure, requestId)
    const own = {
      'x-request-id': requestId,
      'content-length': String(Buffer.byteLength(body)),
      connection: 'close',
    }
    response.writeHead(failure.row.status, { ...headers, ...problemHeaders(failure), ...own }).end(body)
  }
}

const lingerMs = 1_000

function parseFailure(error: NodeJS.ErrnoException): Failure {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return httpError('HEADERS_TOO_LARGE')
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return commonFailure('TIMEOUT', { reason: 'The request did not arrive in time.' })
    default:
      return commonFailure('BAD_REQUEST', { reason: 'This is not a valid HTTP/1.1 request.' })
  }
}

function rawAnswer(failure: Failure, headers: Record<string, string>): string {
  const requestId = randomUUID()
  const body = problemJson(failure, requestId)
  const lines = Object.entries({
    ...headers,
    ...problemHeaders(failure),
    'x-request-id': requestId,
    'content-length': String(Buffer.byteLength(body)),
    date: new Date().toUTCString(),
    connection: 'close',
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  const { status } = failure.row
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`
}

// Two answers on one request would be read as the answer to the next one (response splitting).
function answerHasBegun(socket: Socket): boolean {
  const { _httpMessage: message } = socket as Socket & { _httpMessage?: ServerResponse }
  return message?.headersSent === true
}
