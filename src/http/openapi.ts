import swagger from '@fastify/swagger'
import type { FastifySchema } from 'fastify'
import type { ErrorRow } from '#lib/errors.ts'
import { renderDocsPage } from './docs-page.ts'
import { pageSecurityPolicy } from './headers.ts'
import { problemResponse } from './schemas.ts'
import { type App, sendJson } from './types.ts'

export interface OpenApiOptions {
  version: string
  publicUrl?: string
  errorRows: Record<string, ErrorRow>
}

/** GET /openapi.json (OpenAPI 3.1, from the route schemas) and GET /docs. Both are made once, when first asked for. */
export async function registerOpenApi(app: App, options: OpenApiOptions): Promise<void> {
  const cookiePrefix = options.publicUrl?.startsWith('https:') ? '__Host-' : ''
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'MoonYetis Slots',
        version: options.version,
        description: 'Provably fair slots on Fractal Bitcoin. Amounts are digit strings of whole chips.',
      },
      ...(options.publicUrl === undefined ? {} : { servers: [{ url: options.publicUrl }] }),
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer' },
          playerCookie: { type: 'apiKey', in: 'cookie', name: `${cookiePrefix}moonyetis_session` },
          operatorCookie: { type: 'apiKey', in: 'cookie', name: `${cookiePrefix}moonyetis_operator` },
        },
      },
    },
    transform: ({ schema, url }) => ({ schema: describedInFull(schema ?? {}), url }),
  })
  let json: string | undefined
  let page: ReturnType<typeof renderDocsPage> | undefined

  app.get('/openapi.json', { schema: { hide: true } }, (_request, reply) => {
    json ??= JSON.stringify(app.swagger())
    return sendJson(reply, json)
  })

  app.get('/docs', { schema: { hide: true } }, (_request, reply) => {
    page ??= renderDocsPage(app.swagger(), options)
    return reply
      .header('content-security-policy', pageSecurityPolicy(page.styleHash))
      .type('text/html; charset=utf-8')
      .send(page.html)
  })
}

/** A route's schema with what is described only, and with what any route that takes a body may answer. */
function describedInFull(schema: FastifySchema): Record<string, unknown> {
  const { describedHeaders, ...rest } = { ...schema } as Record<string, unknown>
  if (rest.body !== undefined) rest.response = { ...bodyProblems, ...(rest.response as object) }
  if (describedHeaders === undefined) return rest
  // Headers that a route reads itself: validating every header of every spin would cost more than it.
  const required = Object.keys(describedHeaders as object)
  return { ...rest, headers: { type: 'object', required, properties: describedHeaders } }
}

const bodyProblems = {
  413: problemResponse('The body is too large (BODY_TOO_LARGE).'),
  415: problemResponse('The body is not JSON by its content type (UNSUPPORTED_MEDIA_TYPE).'),
}
