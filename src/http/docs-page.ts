import { createHash } from 'node:crypto'
import type { ErrorRow } from '#lib/errors.ts'

interface Schema {
  type?: string
  description?: string
  properties?: Record<string, Schema>
  required?: string[]
  default?: unknown
  const?: unknown
  anyOf?: Schema[]
  items?: Schema
  minimum?: number
  examples?: unknown[]
}
interface Operation {
  summary?: string
  description?: string
  parameters?: { name: string; in: string; required?: boolean; schema?: Schema; description?: string }[]
  requestBody?: { content?: Record<string, { schema?: Schema }> }
  responses?: Record<string, { description?: string }>
}

export interface DocsPage {
  html: string
  /** For style-src of the page's content security policy. */
  styleHash: string
}

const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c28;background:#fff}
h2{margin-top:2.5rem;font-size:1.1rem}code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f1f1f6;padding:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd}
@media(prefers-color-scheme:dark){body{color:#e8e8f0;background:#15151d}pre{background:#22222e}td,th{border-color:#333}a{color:#9db8ff}}`

/** One self-contained page without scripts: routes with parameters and an example, then the table of problem codes. */
export function renderDocsPage(
  document: { paths?: object },
  options: { version: string; publicUrl?: string; errorRows: Record<string, ErrorRow> },
): DocsPage {
  const base = options.publicUrl ?? 'http://127.0.0.1:3000'
  const routes = Object.entries((document.paths ?? {}) as Record<string, Record<string, Operation>>).flatMap(
    ([path, operations]) =>
      Object.entries(operations).map(([method, operation]) => ({ path, method, operation })),
  )
  const shown = routes.filter(route => route.method !== 'head')
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>MoonYetis API ${escapeHtml(options.version)}</title><style>${style}</style></head><body>
<h1>MoonYetis API ${escapeHtml(options.version)}</h1>
<p>Machine-readable: <a href="/openapi.json">/openapi.json</a>. Errors are <code>application/problem+json</code> (RFC 9457); their codes are listed <a href="#errors">below</a>.</p>
${shown.map(({ path, method, operation }) => renderRoute(base, path, method.toUpperCase(), operation)).join('\n')}
<h2 id="errors">Problem codes</h2>
${renderErrors(options.errorRows)}
</body></html>`
  return { html, styleHash: `sha256-${createHash('sha256').update(style).digest('base64')}` }
}

function renderRoute(base: string, path: string, method: string, operation: Operation): string {
  const rows = [...parameterRows(operation), ...bodyRows(operation)]
  const table = rows.length === 0 ? '' : `<table><tr><th>Name<th>Where<th>What</tr>${rows.join('')}</table>`
  const answers = Object.entries(operation.responses ?? {})
    .map(([status, { description }]) => `<code>${escapeHtml(status)}</code> ${escapeHtml(description ?? '')}`)
    .join('<br>')
  return `<h2 id="${escapeHtml(anchor(method, path))}"><code>${escapeHtml(method)} ${escapeHtml(path)}</code></h2>
<p>${escapeHtml(operation.summary ?? '')}${operation.description ? `<br>${escapeHtml(operation.description)}` : ''}</p>
${table}<pre>${escapeHtml(curl(base, path, method, operation))}</pre><p>${answers}</p>`
}

function parameterRows(operation: Operation): string[] {
  return (operation.parameters ?? []).map(parameter => {
    const what = parameter.description ?? parameter.schema?.description ?? ''
    return row(parameter.name, parameter.required ? parameter.in : `${parameter.in}, optional`, what)
  })
}

function bodyRows(operation: Operation): string[] {
  const schema = bodySchema(operation)
  return Object.entries(schema?.properties ?? {}).map(([name, property]) =>
    row(
      name,
      schema?.required?.includes(name) ? 'body' : 'body, optional',
      property.description ?? property.type ?? '',
    ),
  )
}

function row(name: string, where: string, what: string): string {
  return `<tr><td><code>${escapeHtml(name)}</code><td>${escapeHtml(where)}<td>${escapeHtml(what)}</tr>`
}

function curl(base: string, path: string, method: string, operation: Operation): string {
  const schema = bodySchema(operation)
  const body =
    schema === undefined
      ? ''
      : ` \\\n  -H 'content-type: application/json' -d '${JSON.stringify(example(schema))}'`
  return `curl ${method === 'GET' ? '' : `-X ${method} `}${base}${path}${body}`
}

function bodySchema(operation: Operation): Schema | undefined {
  return operation.requestBody?.content?.['application/json']?.schema
}

function example(schema: Schema): unknown {
  const given = schema.examples?.[0] ?? schema.default ?? schema.const
  if (given !== undefined) return given
  if (schema.anyOf?.[0]) return example(schema.anyOf[0])
  switch (schema.type) {
    case 'object':
      return Object.fromEntries(
        Object.entries(schema.properties ?? {}).map(([name, inner]) => [name, example(inner)]),
      )
    case 'array':
      return schema.items === undefined ? [] : [example(schema.items)]
    case 'integer':
    case 'number':
      return schema.minimum ?? 1
    case 'boolean':
      return true
    default:
      return 'text'
  }
}

function renderErrors(rows: Record<string, ErrorRow>): string {
  const lines = Object.entries(rows)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(
      ([code, { status, title, hint }]) =>
        `<tr id="${escapeHtml(code)}"><td><code>${escapeHtml(code)}</code><td>${status}<td>${escapeHtml(title)}${hint ? `. ${escapeHtml(hint)}` : ''}</tr>`,
    )
  return `<table><tr><th>Code<th>Status<th>Meaning</tr>${lines.join('')}</table>`
}

function anchor(method: string, path: string): string {
  return `${method}-${path}`.toLowerCase().replace(/[^a-z0-9]+/g, '-')
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}
