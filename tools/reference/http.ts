import { type BackupRoutes, backupRoutes } from '#backup/routes.ts'
import { gameSlice } from '#game/config.ts'
import { type GameRoutes, gameRoutes } from '#game/routes.ts'
import { httpSlice } from '#http/config.ts'
import { createHttp } from '#http/http.ts'
import { identitySlice } from '#identity/config.ts'
import { cookieRules, type Doors } from '#identity/doors.ts'
import { type IdentityRoutesOptions, identityRoutes } from '#identity/routes.ts'
import { loadConfig } from '#lib/config.ts'
import { silentLog } from '#lib/log.ts'
import { createMetrics } from '#lib/metrics.ts'
import { errorRows } from '#roles/error-rows.ts'
import { code, page, table } from './text.ts'

interface Field {
  name: string
  in: string
  required?: boolean
  description?: string
  schema?: { description?: string }
}
interface Operation {
  summary?: string
  description?: string
  parameters?: Field[]
  requestBody?: {
    content?: Record<
      string,
      { schema?: { required?: string[]; properties?: Record<string, Field['schema']> } }
    >
  }
  responses?: Record<string, { description?: string }>
}
type Paths = Record<string, Record<string, Operation>>

/** The API as OpenAPI 3.1, from the routes that `serve` registers. */
export async function openApi(version: string): Promise<{ paths?: object }> {
  const { values } = loadConfig([httpSlice, identitySlice, gameSlice], { env: {} })
  const { app } = await createHttp({
    config: values.http,
    log: silentLog,
    metrics: createMetrics(),
    version,
    errorRows,
    ready: () => ({ ready: false, reasons: ['this only describes itself'] }),
  })
  // A description calls no handler, so nothing of what handlers ask has to exist.
  const doors = { cookies: cookieRules(undefined) } as Doors
  await app.register(identityRoutes, { doors, config: values.identity } as unknown as IdentityRoutesOptions)
  await app.register(backupRoutes, {} as BackupRoutes)
  await app.register(gameRoutes, {} as GameRoutes)
  await app.ready()
  const document = app.swagger()
  await app.close()
  return document
}

/** Every route on one page. */
export function httpPage(document: { paths?: object }): string {
  const routes = Object.entries((document.paths ?? {}) as Paths)
    .flatMap(([path, operations]) =>
      Object.entries(operations).map(([method, operation]) => ({ path, method, operation })),
    )
    .filter(({ method }) => method !== 'head')
  const intro = `A running server shows all of it, with the fields of each answer, at \`/docs\` and as OpenAPI 3.1 at \`/openapi.json\`.
Bodies are JSON. Chips are digit strings; lines, nonces and stops are numbers; times are RFC 3339 in UTC. Errors are
\`application/problem+json\` with the codes of [errors.md](errors.md); besides the answers below any route may answer
400, 500 and 503.`
  const rows = routes.map(({ path, method, operation }) => [
    code(`${method.toUpperCase()} ${path}`),
    [operation.summary ?? '', operation.description ?? ''].filter(text => text !== '').join('. '),
    takes(operation),
    answers(operation),
  ])
  return page('HTTP', intro, [table(['Route', 'What', 'Takes', 'Answers'], rows)])
}

function takes({ parameters = [], requestBody }: Operation): string {
  const body = Object.values(requestBody?.content ?? {})[0]?.schema
  const members = Object.entries(body?.properties ?? {}).map(([name, schema]) => ({
    name,
    in: 'body',
    required: body?.required?.includes(name) ?? false,
    ...(schema ? { schema } : {}),
  }))
  return [...parameters, ...members].map(fieldText).join('\n')
}

function fieldText(field: Field): string {
  const description = field.description ?? field.schema?.description ?? ''
  const optional = field.required ? '' : ', optional'
  return `${code(field.name)} (${field.in}${optional})${description === '' ? '' : `: ${description}`}`
}

const everywhere = ['400', '500', '503']

function answers({ responses = {} }: Operation): string {
  return Object.entries(responses)
    .filter(([status]) => !everywhere.includes(status))
    .map(([status, { description = '' }]) =>
      description === 'Default Response' ? status : `${status} ${description}`,
    )
    .join('\n')
}
