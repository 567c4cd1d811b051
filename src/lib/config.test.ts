import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import Type from 'typebox'
import { defineSlice, environmentName, loadConfig } from './config.ts'
import { Failure } from './errors.ts'

const http = defineSlice({
  name: 'http',
  env: { port: 'PORT' },
  schema: Type.Object({
    port: Type.Integer({ default: 3000, minimum: 0, maximum: 65535, description: 'The port.' }),
    publicUrl: Type.Optional(Type.String({ description: 'The address.' })),
    proxies: Type.Array(Type.String(), { default: [], description: 'Proxies.' }),
    isQuiet: Type.Boolean({ default: false, description: 'Quiet.' }),
  }),
})
const backup = defineSlice({
  name: 'backup',
  env: { password: 'BACKUP_PASSWORD' },
  secrets: ['password'],
  schema: Type.Object({
    walMode: Type.Union([Type.Literal('sync'), Type.Literal('async')], {
      default: 'async',
      description: 'Mode.',
    }),
    password: Type.Optional(Type.String({ minLength: 8, description: 'Password.' })),
  }),
})
const slices = [http, backup] as const

function fileWith(t: TestContext, text: string, name = 'config.json'): string {
  const directory = mkdtempSync(join(tmpdir(), 'config-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

function problemsOf(load: () => unknown): string {
  try {
    load()
  } catch (error) {
    assert.ok(error instanceof Failure, String(error))
    assert.equal(error.code, 'CONFIG_INVALID')
    assert.equal(error.row.exit, 2)
    return error.message
  }
  return assert.fail('the configuration was accepted')
}

test('defaults stand when nothing else is given, and the values are frozen all the way down', () => {
  const config = loadConfig(slices, { env: {} })
  assert.deepEqual(config.values, {
    http: { port: 3000, proxies: [], isQuiet: false },
    backup: { walMode: 'async' },
  })
  assert.throws(() => (config.values.http.proxies as string[]).push('x'), TypeError)
  assert.throws(() => Object.assign(config.values.http, { port: 1 }), TypeError)
  assert.throws(() => Object.assign(config.values, { http: {} }), TypeError)
})

test('a flag beats the environment, which beats the file, which beats the default', t => {
  const file = fileWith(t, '{"http": {"port": 1}}')
  const source = (env: NodeJS.ProcessEnv, flags?: Record<string, unknown>) => {
    const config = loadConfig(slices, { file, env, flags })
    const entry = config.entries.find(one => one.key === 'http.port')
    return [config.values.http.port, entry?.source]
  }
  assert.deepEqual(source({}), [1, 'file'])
  assert.deepEqual(source({ PORT: '2' }), [2, 'environment'])
  assert.deepEqual(source({ PORT: '2', MOONYETIS_HTTP__PORT: '3' }), [3, 'environment'])
  assert.deepEqual(source({ PORT: '2' }, { 'http.port': 4 }), [4, 'flag'])
  assert.deepEqual(source({ PORT: '2' }, { 'http.port': '5' }), [5, 'flag'])
  assert.deepEqual(source({ PORT: '' }, { 'http.port': undefined }), [1, 'file'])
})

test('environment text is read as integer, boolean, list or choice', () => {
  const { values } = loadConfig(slices, {
    env: {
      MOONYETIS_HTTP__IS_QUIET: 'true',
      MOONYETIS_HTTP__PROXIES: '10.0.0.0/8, ::1',
      MOONYETIS_BACKUP__WAL_MODE: 'sync',
    },
  })
  assert.equal(values.http.isQuiet, true)
  assert.deepEqual(values.http.proxies, ['10.0.0.0/8', '::1'])
  assert.equal(values.backup.walMode, 'sync')
})

test('every problem is reported at once, each with key, value, source and what is expected', t => {
  const file = fileWith(t, '{"http": {"prot": 1, "proxies": "x"}, "htpp": {}, "backup": 3}')
  const text = problemsOf(() =>
    loadConfig(slices, {
      file,
      env: { PORT: 'abc', MOONYETIS_BACKUP__WALMODE: 'sync', MOONYETIS_BACKUP__WAL_MODE: 'maybe' },
      flags: { 'http.porrt': 1 },
    }),
  )
  assert.match(text, /http\.port: "abc" from PORT is not an integer from 0 to 65535/)
  assert.match(text, /http\.prot in .*config\.json is not known \(did you mean http\.port\?\)/)
  assert.match(text, /http\.proxies: "x" from .*config\.json is not a list, each a text/)
  assert.match(text, /htpp in .* is not known \(did you mean http\?\)/)
  assert.match(text, /backup in .* must be an object of keys/)
  assert.match(
    text,
    /MOONYETIS_BACKUP__WALMODE in the environment is not known \(did you mean MOONYETIS_BACKUP__WAL_MODE\?\)/,
  )
  assert.match(text, /backup\.walMode: "maybe" from MOONYETIS_BACKUP__WAL_MODE is not one of sync, async/)
  assert.match(text, /flag http\.porrt is not known \(did you mean http\.port\?\)/)
})

test('environment names without a slice are left alone', () => {
  loadConfig(slices, { env: { MOONYETIS_HOME: '/x', MOONYETIS_REQUIRE_ALL: '1', OTHER__NAME: 'x' } })
})

test('a slip in an environment name without a slice is told, so that no start goes by a default instead', () => {
  const installation = defineSlice({
    name: 'installation',
    env: { chain: 'MOONYETIS_CHAIN' },
    schema: Type.Object({ chain: Type.String({ default: 'simulated', description: 'Chain.' }) }),
  })
  for (const [slip, meant] of [
    ['MOONYETIS_CHIAN', 'MOONYETIS_CHAIN'],
    ['MOONYETIS_HOEM', 'MOONYETIS_HOME'],
    ['MOONYETIS_HTTP_PORT', 'MOONYETIS_HTTP__PORT'],
  ] as const) {
    const text = problemsOf(() => loadConfig([...slices, installation], { env: { [slip]: 'x' } }))
    assert.ok(text.includes(`${slip} in the environment is not known (did you mean ${meant}?)`), text)
  }
})

test('slices of other roles are known names whose values are not looked at', t => {
  const file = fileWith(t, '{"backup": {"walMode": "nonsense"}}')
  const env = { MOONYETIS_BACKUP__WAL_MODE: 'nonsense', MOONYETIS_BACKUP__PASSWORD_FILE: '/nowhere' }
  const config = loadConfig([http], { file, env, others: [backup] })
  assert.deepEqual(Object.keys(config.values), ['http'])
  const unknown = { MOONYETIS_BACKUP__NOPE: 'x' }
  assert.match(
    problemsOf(() => loadConfig([http], { env: unknown, others: [backup] })),
    /NOPE/,
  )
})

test('a secret comes by file, is marked in the entries and is in no message', t => {
  const path = fileWith(t, 'correct horse\n', 'password')
  for (const name of ['BACKUP_PASSWORD_FILE', 'MOONYETIS_BACKUP__PASSWORD_FILE']) {
    const config = loadConfig(slices, { env: { [name]: path } })
    assert.equal(config.values.backup.password, 'correct horse')
    const entry = config.entries.find(one => one.key === 'backup.password')
    assert.deepEqual([entry?.secret, entry?.source], [true, 'environment'])
  }
  const short = problemsOf(() => loadConfig(slices, { env: { BACKUP_PASSWORD: 'hunter2' } }))
  assert.doesNotMatch(short, /hunter2/)
  assert.match(
    short,
    /backup\.password: the secret from BACKUP_PASSWORD is not a text of at least 8 characters/,
  )
  const inFile = fileWith(t, '{"backup": {"password": "hunter2"}}')
  assert.doesNotMatch(
    problemsOf(() => loadConfig(slices, { file: inFile, env: {} })),
    /hunter2/,
  )
})

test('a secret file that cannot be read is named, and a secret on the command line is refused', () => {
  const missing = problemsOf(() => loadConfig(slices, { env: { BACKUP_PASSWORD_FILE: '/nowhere/x' } }))
  assert.match(missing, /BACKUP_PASSWORD_FILE names \/nowhere\/x, which cannot be read \(ENOENT\)/)
  const flag = problemsOf(() => loadConfig(slices, { env: {}, flags: { 'backup.password': 'hunter22' } }))
  assert.match(flag, /give it by BACKUP_PASSWORD_FILE, not on the command line/)
  assert.doesNotMatch(flag, /hunter22/)
})

test('a file with a syntax error is named with line and column, and its content is not quoted', t => {
  const cases: [string, RegExp][] = [
    ['{\n  "http": {"port": 1,}\n}', /line 2, column 22/],
    ['{\n  "http": {"port": x}\n}', /line 2, column 20/],
    ['{"http": {', /line 1, column 11: Expected property name/],
    ['', /line 1, column 1/],
    ['{"backup": {"password": hunter2}}', /line 1, column 25/],
  ]
  for (const [text, place] of cases) {
    const file = fileWith(t, text)
    const message = problemsOf(() => loadConfig(slices, { file, env: {} }))
    assert.match(message, place)
    assert.doesNotMatch(message, /unter2/)
  }
  assert.match(
    problemsOf(() => loadConfig(slices, { file: fileWith(t, '[]'), env: {} })),
    /must hold one JSON object/,
  )
})

test('an absent file is no problem, an unreadable one is', t => {
  assert.equal(loadConfig(slices, { file: '/nowhere/config.json', env: {} }).values.http.port, 3000)
  const file = fileWith(t, '{}')
  chmodSync(file, 0o000)
  const directory = join(file, '..')
  assert.match(
    problemsOf(() => loadConfig(slices, { file: directory, env: {} })),
    /cannot be read \(EISDIR\)/,
  )
})

test('__proto__ and constructor in the file are unknown keys and change no prototype', t => {
  const file = fileWith(
    t,
    '{"__proto__": {"polluted": 1}, "http": {"__proto__": {"polluted": 1}, "constructor": 1}}',
  )
  const message = problemsOf(() => loadConfig(slices, { file, env: {} }))
  assert.match(message, /__proto__ in .* is not known/)
  assert.match(message, /http\.__proto__ in .* is not known/)
  assert.match(message, /http\.constructor in .* is not known/)
  assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false)
})

test('the environment never crashes the load: it is accepted or refused as CONFIG_INVALID', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.string(), (port, quiet, mode) => {
      const env = { PORT: port, MOONYETIS_HTTP__IS_QUIET: quiet, MOONYETIS_BACKUP__WAL_MODE: mode }
      try {
        const { values } = loadConfig(slices, { env })
        assert.ok(Number.isInteger(values.http.port) && values.http.port >= 0 && values.http.port <= 65535)
        assert.equal(typeof values.http.isQuiet, 'boolean')
      } catch (error) {
        assert.equal((error as Failure).code, 'CONFIG_INVALID')
      }
    }),
  )
})

test('a required key without a default is a mistake of the slice, found at the first load', () => {
  const broken = defineSlice({ name: 'x', schema: Type.Object({ y: Type.Integer() }) })
  assert.throws(() => loadConfig([broken], { env: {} }), /config key x\.y needs a default/)
})

test('environment names are upper snake case', () => {
  assert.equal(environmentName('backup', 'walMode'), 'MOONYETIS_BACKUP__WAL_MODE')
  assert.equal(environmentName('rateLimit', 'maxPer15Min'), 'MOONYETIS_RATE_LIMIT__MAX_PER15_MIN')
})
