import { readFileSync } from 'node:fs'
import type { Static, TObject, TSchema } from 'typebox'
import Value from 'typebox/value'
import { commonFailure } from './errors.ts'
import { describeExpected, isSlip, nearestHint, textToValue } from './schema-text.ts'

/** One pillar's part of the configuration. Every property has a default (or is optional) and a description. */
export interface Slice<T extends TObject = TObject> {
  name: string
  schema: T
  /** Environment names of the public contract without a slice, by key: `{ port: 'PORT' }`. */
  env?: Record<string, string>
  /** Keys whose value is never shown and may be given by `<NAME>_FILE`. */
  secrets?: readonly string[]
}

export type ConfigSource = 'default' | 'file' | 'environment' | 'flag'

export interface ConfigEntry {
  /** Such as `http.port`. */
  key: string
  value: unknown
  source: ConfigSource
  description: string
  secret: boolean
}

export interface Config<S extends readonly Slice[]> {
  /** By slice, then key; deep frozen. */
  values: { readonly [Name in S[number]['name']]: Static<Extract<S[number], { name: Name }>['schema']> }
  /** Every key in declaration order, with where its value came from; what `config print` shows. */
  entries: readonly ConfigEntry[]
}

export interface ConfigSources {
  /** Path of a JSON file `{slice: {key: value}}`; it may be absent. */
  file?: string
  env: NodeJS.ProcessEnv
  /** By full key, such as `{ 'http.port': 8080 }`; undefined values count as not given. */
  flags?: Record<string, unknown>
  /** Slices that only other roles load: their keys are known names here, their values are not looked at. */
  others?: readonly Slice[]
}

export function defineSlice<const N extends string, T extends TObject>(slice: {
  name: N
  schema: T
  env?: Record<string, string>
  secrets?: readonly string[]
}): { name: N; schema: T; env?: Record<string, string>; secrets?: readonly string[] } {
  return slice
}

/**
 * defaults < file < environment < flags. Throws one CONFIG_INVALID that names every problem found: unknown keys with
 * the nearest known name, wrong values with what is expected. A secret's value is in no message.
 */
export function loadConfig<const S extends readonly Slice[]>(slices: S, sources: ConfigSources): Config<S> {
  const problems: string[] = []
  const keys = slices.flatMap(slice => keysOf(slice))
  const known = [...keys, ...(sources.others ?? []).flatMap(slice => keysOf(slice))]
  const given = [
    fromFile(sources.file, known, problems),
    fromEnvironment(sources.env, keys, known, problems),
    fromFlags(sources.flags ?? {}, known, problems),
  ]
  const entries = keys.map(key => settle(key, given, problems))
  if (problems.length > 0) {
    throw commonFailure('CONFIG_INVALID', { problems: problems.map(problem => `  ${problem}`).join('\n') })
  }
  return { values: deepFreeze(bySlice(slices, entries)) as Config<S>['values'], entries: deepFreeze(entries) }
}

/** MOONYETIS_BACKUP__WAL_MODE for backup.walMode. */
export function environmentName(slice: string, key: string): string {
  return `MOONYETIS_${upperSnake(slice)}__${upperSnake(key)}`
}

interface Key {
  name: string
  slice: string
  key: string
  schema: TSchema & { default?: unknown; description?: string }
  secret: boolean
  /** The contract's own name first in text, but the slice's name wins when both are set: it is the more exact one. */
  environmentNames: readonly string[]
}

interface Given {
  value: unknown
  source: ConfigSource
  /** For messages: `PORT`, `/home/config.json`, `--http.port`. */
  from: string
}
type GivenValues = Map<string, Given>

function keysOf(slice: Slice): Key[] {
  const required = new Set<string>((slice.schema as { required?: string[] }).required)
  return Object.entries(slice.schema.properties).map(([key, schema]) => {
    const property = schema as Key['schema']
    if (required.has(key) && property.default === undefined) {
      throw new TypeError(`config key ${slice.name}.${key} needs a default, or Type.Optional`)
    }
    const short = slice.env?.[key]
    return {
      name: `${slice.name}.${key}`,
      slice: slice.name,
      key,
      schema: property,
      secret: slice.secrets?.includes(key) ?? false,
      environmentNames: [environmentName(slice.name, key), ...(short === undefined ? [] : [short])],
    }
  })
}

function fromFile(path: string | undefined, known: readonly Key[], problems: string[]): GivenValues {
  const given: GivenValues = new Map()
  const content = path === undefined ? undefined : readConfigFile(path, problems)
  if (path === undefined || content === undefined) return given
  const sliceNames = [...new Set(known.map(key => key.slice))]
  for (const [slice, values] of Object.entries(content)) {
    if (!sliceNames.includes(slice)) {
      problems.push(`${slice} in ${path} is not known${nearestHint(slice, sliceNames)}`)
    } else if (!isObject(values)) {
      problems.push(`${slice} in ${path} must be an object of keys`)
    } else {
      for (const [key, value] of Object.entries(values)) {
        const name = `${slice}.${key}`
        if (known.some(one => one.name === name)) given.set(name, { value, source: 'file', from: path })
        else
          problems.push(
            `${name} in ${path} is not known${nearestHint(
              name,
              known.map(one => one.name),
            )}`,
          )
      }
    }
  }
  return given
}

function readConfigFile(path: string, problems: string[]): Record<string, unknown> | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8').replace(/^\uFEFF/, '')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') problems.push(`${path} cannot be read (${code})`)
    return undefined
  }
  try {
    const content: unknown = JSON.parse(text)
    if (isObject(content)) return content
    problems.push(`${path} must hold one JSON object`)
  } catch (error) {
    problems.push(`${path} is not valid JSON${placeOf(error as Error, text)}`)
  }
  return undefined
}

function fromEnvironment(
  env: NodeJS.ProcessEnv,
  keys: readonly Key[],
  known: readonly Key[],
  problems: string[],
): GivenValues {
  const given: GivenValues = new Map()
  for (const key of keys) {
    const text = environmentText(key, env, problems)
    if (text === undefined) continue
    given.set(key.name, {
      value: textToValue(key.schema, text.value),
      source: 'environment',
      from: text.from,
    })
  }
  const names = known.map(key => key.environmentNames[0] as string)
  const secretFiles = known.filter(key => key.secret).map(key => `${key.environmentNames[0]}_FILE`)
  const short = known.flatMap(key => key.environmentNames.slice(1))
  const all = [...names, ...short, ...secretFiles, homeVariable]
  for (const name of Object.keys(env)) {
    if (!name.startsWith('MOONYETIS_') || all.includes(name)) continue
    if (/^MOONYETIS_[A-Z0-9_]*__/.test(name))
      problems.push(`${name} in the environment is not known${nearestHint(name, names)}`)
    // Other names with our prefix are somebody else's (orchestrators make some); a slip of the pen is ours.
    else if (isSlip(name, all))
      problems.push(`${name} in the environment is not known${nearestHint(name, all)}`)
  }
  return given
}

// Read before any configuration is: it tells where the configuration file is.
const homeVariable = 'MOONYETIS_HOME'

/** An empty variable counts as not set, as in `PORT= npm start`. */
function environmentText(
  key: Key,
  env: NodeJS.ProcessEnv,
  problems: string[],
): { value: string; from: string } | undefined {
  for (const name of key.environmentNames) {
    const value = env[name]
    if (value !== undefined && value !== '') return { value, from: name }
    const path = key.secret ? env[`${name}_FILE`] : undefined
    if (path === undefined || path === '') continue
    try {
      return { value: readFileSync(path, 'utf8').replace(/\r?\n$/, ''), from: `${name}_FILE` }
    } catch (error) {
      problems.push(
        `${key.name}: ${name}_FILE names ${path}, which cannot be read (${(error as NodeJS.ErrnoException).code})`,
      )
      return undefined
    }
  }
  return undefined
}

function fromFlags(flags: Record<string, unknown>, known: readonly Key[], problems: string[]): GivenValues {
  const given: GivenValues = new Map()
  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined) continue
    const key = known.find(one => one.name === name)
    if (!key) {
      problems.push(
        `flag ${name} is not known${nearestHint(
          name,
          known.map(one => one.name),
        )}`,
      )
    } else if (key.secret) {
      // Command lines are readable by everyone on the machine and stay in shell histories.
      problems.push(
        `${name} is a secret: give it by ${key.environmentNames.at(-1)}_FILE, not on the command line`,
      )
    } else {
      const settled = typeof value === 'string' ? textToValue(key.schema, value) : value
      given.set(name, { value: settled, source: 'flag', from: `flag ${name}` })
    }
  }
  return given
}

function settle(key: Key, given: readonly GivenValues[], problems: string[]): ConfigEntry {
  const winner = given.map(values => values.get(key.name)).findLast(one => one !== undefined)
  const value = winner === undefined ? structuredClone(key.schema.default) : winner.value
  if (winner !== undefined && !Value.Check(key.schema, value)) {
    const shown = key.secret ? 'the secret' : JSON.stringify(value)
    problems.push(`${key.name}: ${shown} from ${winner.from} is not ${describeExpected(key.schema)}`)
  }
  const { name, secret, schema } = key
  return {
    key: name,
    value,
    source: winner?.source ?? 'default',
    description: schema.description ?? '',
    secret,
  }
}

function bySlice(
  slices: readonly Slice[],
  entries: readonly ConfigEntry[],
): Record<string, Record<string, unknown>> {
  const values: Record<string, Record<string, unknown>> = {}
  for (const slice of slices) values[slice.name] = {}
  for (const { key, value } of entries) {
    const dot = key.indexOf('.')
    if (value !== undefined)
      (values[key.slice(0, dot)] as Record<string, unknown>)[key.slice(dot + 1)] = value
  }
  return values
}

function placeOf(error: Error, text: string): string {
  const position = /at position (\d+)/.exec(error.message)
  const before = text.slice(0, position ? Number(position[1]) : lastReadable(text))
  const line = before.split('\n').length
  const column = before.length - before.lastIndexOf('\n')
  // V8 may quote the file after this; a secret could be in that.
  const what = error.message.split(/ in JSON|, "|, \.\.\./)[0]
  return ` at line ${line}, column ${column}: ${what}`
}

/** Where V8 gives no position: the length of the longest beginning that only lacks its end. */
function lastReadable(text: string): number {
  let low = 0
  let high = text.length
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (onlyLacksItsEnd(text.slice(0, middle))) low = middle
    else high = middle - 1
  }
  return low
}

function onlyLacksItsEnd(beginning: string): boolean {
  try {
    JSON.parse(beginning)
    return true
  } catch (error) {
    const { message } = error as Error
    return (
      /Unexpected end|Unterminated/.test(message) ||
      Number(/position (\d+)/.exec(message)?.[1]) >= beginning.length
    )
  }
}

function upperSnake(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase()
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) deepFreeze(inner)
  return value
}
