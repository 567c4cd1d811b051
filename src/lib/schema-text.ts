import { closest, distance } from 'fastest-levenshtein'
import type { TSchema } from 'typebox'
import Value from 'typebox/value'

interface AnySchema {
  type?: string
  const?: unknown
  enum?: unknown[]
  anyOf?: AnySchema[]
  items?: AnySchema
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  pattern?: string
  format?: string
  unit?: string
  description?: string
}

/**
 * Turns the text of an environment variable or flag into the schema's type: integer, number, boolean (true, false, 1,
 * 0), list (commas), object (JSON). Text that does not fit stays text, so that the check afterwards can name it.
 */
export function textToValue(schema: TSchema, text: string): unknown {
  const { anyOf } = schema as AnySchema
  if (!anyOf) return convert(schema as AnySchema, text)
  const candidates = anyOf.map(option => convert(option, text))
  const fitting = candidates.findIndex((candidate, i) => Value.Check(anyOf[i] as TSchema, candidate))
  return fitting === -1 ? text : candidates[fitting]
}

/** Reads on from "is not": `an integer from 0 to 65535 (ms)`, `one of embedded, external`. */
export function describeExpected(schema: TSchema): string {
  const { unit } = schema as AnySchema
  return unit === undefined ? describe(schema as AnySchema) : `${describe(schema as AnySchema)} (${unit})`
}

/** ` (did you mean X?)`, or nothing when no known name is near. */
export function nearestHint(name: string, names: readonly string[]): string {
  if (names.length === 0) return ''
  const best = closest(name, names)
  // Beyond half of the letters in doubt a suggestion only confuses; a common beginning is in no doubt.
  const inDoubt = name.length - commonBeginning(name, best)
  return distance(name, best) <= Math.max(2, inDoubt / 2) ? ` (did you mean ${best}?)` : ''
}

/** One or two letters away from a known name: MOONYETIS_CHIAN, or MOONYETIS_HTTP_PORT for MOONYETIS_HTTP__PORT. */
export function isSlip(name: string, names: readonly string[]): boolean {
  return names.length > 0 && distance(name, closest(name, names)) <= 2
}

function commonBeginning(a: string, b: string): number {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return length
}

function convert(schema: AnySchema, text: string): unknown {
  switch (schema.type ?? typeof schema.const) {
    case 'integer':
      return /^\s*[+-]?\d+\s*$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : text
    case 'number':
      return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text
    case 'boolean':
      return booleans.get(text.trim().toLowerCase()) ?? text
    case 'array':
      return list(text).map(item => textToValue((schema.items ?? {}) as TSchema, item))
    case 'object':
      return parsedOr(text)
    default:
      return text
  }
}

const booleans = new Map([
  ['true', true],
  ['1', true],
  ['false', false],
  ['0', false],
])

function list(text: string): string[] {
  return text
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '')
}

function parsedOr(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function describe(schema: AnySchema): string {
  if (schema.anyOf?.every(option => 'const' in option)) return oneOf(schema.anyOf.map(option => option.const))
  if (schema.anyOf) return schema.anyOf.map(describe).join(' or ')
  if ('const' in schema) return JSON.stringify(schema.const)
  if (schema.enum) return oneOf(schema.enum)
  switch (schema.type) {
    case 'integer':
      return `an integer${range(schema.minimum, schema.maximum)}`
    case 'number':
      return `a number${range(schema.minimum, schema.maximum)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return `a list${range(schema.minItems, schema.maxItems, 'items')}, each ${describe(schema.items ?? {})}`
    case 'string':
      return describeText(schema)
    case 'object':
      return 'an object'
    case 'null':
      return 'null'
    default:
      return 'a value'
  }
}

function describeText(schema: AnySchema): string {
  const length = range(schema.minLength, schema.maxLength, 'characters')
  const form = schema.pattern ?? schema.format
  if (form === undefined) return `a text${length}`
  // What a person wrote about it says more than the expression that checks it.
  const { description } = schema
  return description ? `a text: ${description.replace(/\.$/, '')}` : `a text${length} of the form ${form}`
}

function oneOf(values: unknown[]): string {
  return `one of ${values.map(String).join(', ')}`
}

function range(from: number | undefined, to: number | undefined, of = ''): string {
  const suffix = of === '' ? '' : ` ${of}`
  if (from !== undefined && to !== undefined) return ` from ${from} to ${to}${suffix}`
  if (from !== undefined) return ` of at least ${from}${suffix}`
  return to === undefined ? '' : ` of at most ${to}${suffix}`
}
