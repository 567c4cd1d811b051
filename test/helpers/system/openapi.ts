import fc from 'fast-check'

/** The part of JSON Schema that our routes use. */
export interface JsonSchema {
  type?: string
  enum?: unknown[]
  const?: unknown
  pattern?: string
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
  properties?: Record<string, JsonSchema>
  required?: string[]
  additionalProperties?: boolean
  anyOf?: JsonSchema[]
}

export interface Operation {
  method: string
  /** With {name} holes. */
  path: string
  parameters: { name: string; in: 'path' | 'query' | 'header'; required: boolean; schema: JsonSchema }[]
  body: JsonSchema | undefined
  /** Statuses that the description names. */
  statuses: number[]
}

interface Document {
  paths: Record<
    string,
    Record<
      string,
      {
        parameters?: Operation['parameters']
        requestBody?: { content: Record<string, { schema: JsonSchema }> }
        responses: Record<string, unknown>
      }
    >
  >
}

export function operationsOf(text: string): Operation[] {
  const { paths } = JSON.parse(text) as Document
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      parameters: operation.parameters ?? [],
      body: operation.requestBody?.content['application/json']?.schema,
      statuses: Object.keys(operation.responses).map(Number),
    })),
  )
}

/** Our own reading of a schema, so that the server's validator is not asked whether it is right. */
export function fits(schema: JsonSchema, value: unknown): boolean {
  if (schema.anyOf) return schema.anyOf.some(one => fits(one, value))
  if ('const' in schema) return value === schema.const
  if (schema.enum) return schema.enum.includes(value)
  if (schema.type === 'string') return typeof value === 'string' && fitsText(schema, value)
  if (schema.type === 'integer') return Number.isSafeInteger(value) && fitsNumber(schema, value as number)
  if (schema.type === 'object') return isRecord(value) && fitsObject(schema, value)
  throw new Error(`a schema that the fuzz does not know: ${JSON.stringify(schema)}`)
}

/** Values that fit. */
export function valid(schema: JsonSchema): fc.Arbitrary<unknown> {
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map(valid))
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern))
  if (schema.type === 'string')
    return fc.string({ minLength: schema.minLength ?? 0, maxLength: Math.min(schema.maxLength ?? 50, 50) })
  if (schema.type === 'integer')
    return fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1000, 2 ** 31 - 1) })
  if (schema.type === 'object') {
    const properties = Object.entries(schema.properties ?? {}).map(([name, inner]) => [name, valid(inner)])
    return fc.record(Object.fromEntries(properties))
  }
  throw new Error(`a schema that the fuzz does not know: ${JSON.stringify(schema)}`)
}

function fitsText(schema: JsonSchema, text: string): boolean {
  const length = [...text].length
  return (
    (schema.pattern === undefined || new RegExp(schema.pattern).test(text)) &&
    length >= (schema.minLength ?? 0) &&
    length <= (schema.maxLength ?? Number.POSITIVE_INFINITY)
  )
}

function fitsNumber(schema: JsonSchema, value: number): boolean {
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema
  return value >= minimum && value <= maximum
}

function fitsObject(schema: JsonSchema, value: Record<string, unknown>): boolean {
  const properties = schema.properties ?? {}
  return (
    (schema.required ?? []).every(name => Object.hasOwn(value, name)) &&
    Object.entries(value).every(([name, inner]) => {
      const known = Object.hasOwn(properties, name) ? properties[name] : undefined
      return known ? fits(known, inner) : schema.additionalProperties !== false
    })
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
