import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import Compile from 'typebox/compile'
import { Settings } from 'typebox/system'
import { commonFailure, type Failure } from '#lib/errors.ts'
import { describeExpected, nearestHint, textToValue } from '#lib/schema-text.ts'
import { isBadText } from './json.ts'

/** One offending field of a request; `message` reads on from the field's name and says the mend. */
export interface FieldError {
  field: string
  message: string
}

interface ObjectSchema {
  type?: string
  properties?: Record<string, TSchema & { default?: unknown }>
  items?: TSchema
  anyOf?: TSchema[]
  additionalProperties?: unknown
}

/**
 * Compiles route schemas with TypeBox. A body is taken as it came: no coercion, no defaults, nothing removed. Path and
 * query are text, so they are read as the type their schema asks for, and a query's defaults are filled in.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  // TypeBox reports several errors for one field (each branch of a union), so it must look further than mostFields.
  Settings.Set({ maxErrors: mostFields * 5 })
  const validator = Compile(schema)
  const part = partNames.get(httpPart ?? 'body') ?? 'request'
  if (httpPart !== 'querystring' && httpPart !== 'params') {
    return value =>
      validator.Check(value) || { error: validationFailure(part, schema, validator.Errors(value), value) }
  }
  return given => {
    const value = readTexts(schema as ObjectSchema, given as Record<string, unknown>)
    const bad = Object.keys(value).find(key => typeof value[key] === 'string' && isBadText(value[key]))
    if (bad !== undefined) return { error: partFailure(part, [{ field: bad, message: 'must not hold NUL' }]) }
    return validator.Check(value)
      ? { value }
      : { error: validationFailure(part, schema, validator.Errors(value), value) }
  }
}

/** The schema with every object in it closed: an unknown property is an error unless its author said otherwise. */
export function closeObjects(schema: TSchema): TSchema {
  const { properties, items, anyOf, additionalProperties } = schema as ObjectSchema
  const closed: ObjectSchema = { ...(schema as ObjectSchema) }
  if (properties) {
    const entries = Object.entries(properties).map(([name, inner]) => [name, closeObjects(inner)] as const)
    closed.properties = Object.fromEntries(entries)
    closed.additionalProperties = additionalProperties ?? false
  }
  if (items && !Array.isArray(items)) closed.items = closeObjects(items)
  if (anyOf) closed.anyOf = anyOf.map(closeObjects)
  return closed as TSchema
}

const partNames = new Map([
  ['body', 'body'],
  ['querystring', 'query'],
  ['params', 'path'],
  ['headers', 'header'],
])

function readTexts(schema: ObjectSchema, given: Record<string, unknown>): Record<string, unknown> {
  const value: Record<string, unknown> = {}
  for (const [name, text] of Object.entries(given)) {
    const property = Object.hasOwn(schema.properties ?? {}, name) ? schema.properties?.[name] : undefined
    const read = property !== undefined && typeof text === 'string' ? textToValue(property, text) : text
    // defineProperty: assigning to the name `__proto__` would set the prototype instead.
    Object.defineProperty(value, name, { value: read, enumerable: true, writable: true, configurable: true })
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (property.default !== undefined && !Object.hasOwn(value, name)) value[name] = property.default
  }
  return value
}

interface CheckError {
  keyword: string
  schemaPath: string
  instancePath: string
  params: object
}

function validationFailure(
  part: string,
  schema: TSchema,
  errors: readonly CheckError[],
  value: unknown,
): Failure {
  const fields = new Map<string, string>()
  for (const error of errors) {
    for (const { field, message } of fieldErrors(schema, error, value)) {
      if (!fields.has(field)) fields.set(field, message)
    }
  }
  return partFailure(
    part,
    [...fields].slice(0, mostFields).map(([field, message]) => ({ field, message })),
  )
}

// Enough to mend a request in one go, few enough that a hostile one does not buy a long answer.
const mostFields = 10
const longestFieldName = 100

function partFailure(part: string, fields: readonly FieldError[]): Failure {
  const errors = fields.map(({ field, message }) => ({
    field: field.slice(0, longestFieldName).toWellFormed(),
    message,
  }))
  const list = errors
    .map(({ field, message }) => (field === '' ? `it ${message}` : `${field} ${message}`))
    .join('; ')
  return commonFailure('VALIDATION', { reason: `The ${part} is not valid: ${list}.`, errors })
}

function fieldErrors(schema: TSchema, error: CheckError, value: unknown): FieldError[] {
  const path = pathSteps(error.instancePath)
  switch (error.keyword) {
    case 'required': {
      const { requiredProperties = [] } = error.params as { requiredProperties?: string[] }
      return requiredProperties.map(name => {
        const expected = describeExpected(schemaAt(schema, [...path, name]))
        return { field: [...path, name].join('.'), message: `is missing: give ${expected}` }
      })
    }
    // Each unknown property has an error of its own (keyword boolean); this one repeats them.
    case 'additionalProperties':
      return []
    case 'boolean': {
      const known = Object.keys((schemaAt(schema, path.slice(0, -1)) as ObjectSchema).properties ?? {})
      const hint = known.length > 0 ? nearestHint(path.at(-1) ?? '', known) : ''
      return [{ field: path.join('.'), message: `is not known${hint}` }]
    }
    default:
      return [{ field: path.join('.'), message: mismatch(schemaAt(schema, path), path, value) }]
  }
}

function mismatch(schema: TSchema, path: readonly string[], value: unknown): string {
  if (path.length > 0) return `must be ${describeExpected(schema)}`
  return value === undefined || value === null ? 'is missing: send a JSON object' : 'must be a JSON object'
}

/** The part of the schema that a path of the value leads to; of a union, the first branch that knows the step. */
function schemaAt(schema: TSchema, path: readonly string[]): TSchema {
  let current = schema as ObjectSchema
  for (const step of path) {
    const next = current.anyOf
      ? current.anyOf.map(branch => child(branch as ObjectSchema, step)).find(found => found !== undefined)
      : child(current, step)
    if (next === undefined) return {}
    current = next as ObjectSchema
  }
  return current as TSchema
}

function child(schema: ObjectSchema, step: string): TSchema | undefined {
  if (schema.items) return schema.items
  return Object.hasOwn(schema.properties ?? {}, step) ? schema.properties?.[step] : undefined
}

function pathSteps(pointer: string): string[] {
  // RFC 6901: ~1 is a slash, ~0 a tilde.
  return pointer
    .split('/')
    .slice(1)
    .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}
