import Type, { type TSchema } from 'typebox'
import { problemMediaType, problemSchema } from './problems.ts'

/** Codes of the statuses that any route may answer; a route adds its own. */
const standardProblems: Record<number, string> = {
  400: 'The request is not valid (VALIDATION, BAD_REQUEST).',
  500: 'Something failed inside (INTERNAL).',
  503: 'Not available now; Retry-After says when to try again.',
}

export interface RouteDescription<Response extends Record<number, TSchema>> {
  summary: string
  description?: string
  tags?: readonly string[]
  response: Response
  /** Whose session the route needs; described only, the route checks it itself. */
  session?: 'player' | 'operator'
  /** Request headers by lower-case name; described only, the route reads them itself. */
  headers?: Record<string, TSchema>
  /** Further problem answers: status to what it means here, such as `{ 402: 'INSUFFICIENT_BALANCE' }`. */
  problems?: Record<number, string>
}

/**
 * The descriptive half of a route schema, with the standard problem answers added for OpenAPI:
 * `schema: { ...describe({ summary, response: { 200: roundSchema }, problems: {...} }), body: spinBody }`.
 */
export function describe<const Response extends Record<number, TSchema>>(route: RouteDescription<Response>) {
  const problems = { ...standardProblems, ...route.problems }
  const problemResponses = Object.fromEntries(
    Object.entries(problems).map(([status, description]) => [status, problemResponse(description)]),
  )
  return {
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    tags: route.tags ?? ['api'],
    ...(route.session === undefined
      ? {}
      : { security: [{ bearer: [] }, { [`${route.session}Cookie`]: [] }] }),
    ...(route.headers === undefined ? {} : { describedHeaders: route.headers }),
    // The problem answers are left out of the type: handlers throw a Failure instead of sending one.
    response: { ...problemResponses, ...route.response } as Response,
  }
}

/** An amount of whole chips: JSON numbers lose digits above 2^53, so it travels as text. */
export const chipsSchema = Type.String({
  pattern: '^(0|[1-9][0-9]{0,18})$',
  description: 'Whole chips as a digit string.',
})

export const timeSchema = Type.String({ format: 'date-time', description: 'RFC 3339, UTC.' })

/** One problem answer, as OpenAPI describes it. */
export function problemResponse(description: string) {
  return { description, content: { [problemMediaType]: { schema: problemSchema } } }
}
