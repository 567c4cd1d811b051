import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { fits, type Operation, valid } from './openapi.ts'
import type { RawRequest } from './raw.ts'

/** A request that must not succeed. */
// They may answer 401, but not for want of a session: one takes a token in its body, one is open on this machine.
const openHere = ['/api/auth/operator', '/metrics', '/api/monitoring/backups']

export interface Attempt {
  /** What is wrong with it. */
  wrong: string
  request: RawRequest
  /** The one field that is wrong; a VALIDATION problem must name it. */
  field?: string
  /** The only status that is right; without it any 4xx. */
  status?: number
  /** It may also be harmless, as a read is. */
  mayPass?: boolean
}

export interface Credentials {
  token: string
}

type Headers = RawRequest['headers']

const json: Headers = [['Content-Type', 'application/json']]

/** Every way to get this operation wrong that applies to it. */
export function attemptsAt(operation: Operation, who: Credentials): fc.Arbitrary<Attempt> {
  const ways = [...bodyWays(operation, who), ...targetWays(operation, who), methodWay(operation, who)]
  if (!operation.body) ways.push(unexpectedBodyWay(operation, who))
  if (operation.statuses.includes(401) && !openHere.includes(operation.path))
    ways.push(credentialWay(operation, who))
  if (isKeyed(operation)) ways.push(keyWay(operation, who))
  return fc.oneof(...ways)
}

/** Requests that fit the description in every way. */
export function goodAt(operation: Operation, who: Credentials): fc.Arbitrary<RawRequest> {
  const body = operation.body ? valid(operation.body) : fc.constant(undefined)
  const values = operation.parameters.map(({ name, schema, in: place }) =>
    valid(schema).map(value => ({ name, place, text: encodeURIComponent(String(value)) })),
  )
  return fc.tuple(body, fc.tuple(...values)).map(([content, parameters]) => {
    const fill = (path: string, { name, text }: { name: string; text: string }) =>
      path.replace(`{${name}}`, text)
    const path = parameters.filter(({ place }) => place === 'path').reduce(fill, operation.path)
    const query = parameters
      .filter(({ place }) => place === 'query')
      .map(({ name, text }) => `${name}=${text}`)
    const target = query.length === 0 ? path : `${path}?${query.join('&')}`
    return content === undefined
      ? send(operation, who, { target, headers: [] })
      : send(operation, who, { target, body: Buffer.from(JSON.stringify(content)) })
  })
}

/** Money mutations; the description names the status of a reused key for these only. */
function isKeyed(operation: Operation): boolean {
  return operation.method === 'POST' && operation.statuses.includes(422)
}

function send(
  operation: Operation,
  who: Credentials,
  o: { body?: Buffer; headers?: Headers; target?: string },
): RawRequest {
  return {
    method: operation.method,
    target: o.target ?? operation.path.replace(/\{[^}]+\}/g, '1'),
    headers: [
      // A logout with our own session would be a valid one.
      ...(operation.path === '/api/auth/logout' ? [] : [['Authorization', `Bearer ${who.token}`] as const]),
      ...(isKeyed(operation) ? [['Idempotency-Key', randomUUID()] as const] : []),
      ...(o.headers ?? json),
    ],
    ...(o.body ? { body: o.body } : {}),
  }
}

function bodyWays(operation: Operation, who: Credentials): fc.Arbitrary<Attempt>[] {
  const schema = operation.body
  if (!schema) return []
  const names = Object.keys(schema.properties ?? {})
  const whole = valid(schema) as fc.Arbitrary<Record<string, unknown>>
  const attempt = (wrong: string, text: string | Buffer, more: Partial<Attempt> = {}): Attempt => ({
    wrong,
    request: send(operation, who, { body: Buffer.from(text as string) }),
    ...more,
  })
  const oneWrongValue = fc
    .tuple(whole, fc.constantFrom(...names), strangeValue)
    .filter(([, name, value]) => !fits(schema.properties?.[name] as never, value))
    .map(([body, name, value]) =>
      attempt('a value that does not fit', JSON.stringify({ ...body, [name]: value }), {
        field: name,
        status: 400,
      }),
    )
  const oneMissing = fc.tuple(whole, fc.constantFrom(...(schema.required ?? names))).map(([body, name]) => {
    const { [name]: _, ...rest } = body
    return attempt('a field is missing', JSON.stringify(rest), { field: name, status: 400 })
  })
  const oneExtra = fc
    .tuple(
      whole,
      fc.oneof(fc.constantFrom(...inheritedNames), fc.string({ unit: 'grapheme', maxLength: 200 })),
      fc.jsonValue(),
    )
    .filter(([, name]) => !names.includes(name))
    .map(([body, name, value]) => {
      const text = withMember(body, `${JSON.stringify(name)}:${JSON.stringify(value)}`)
      return attempt('a field that does not belong there', text, { status: 400, field: name })
    })
  const oneTwice = fc.tuple(whole, fc.constantFrom(...names)).map(([body, name]) => {
    const text = withMember(body, `${JSON.stringify(name)}:${JSON.stringify(body[name])}`)
    return attempt('a field is given twice', text, { field: name, status: 400 })
  })
  const oneRawToken = fc
    .tuple(whole, fc.constantFrom(...names), fc.constantFrom(...rawTokens))
    .map(([body, name, [token, isJson]]) => {
      const { [name]: _, ...rest } = body
      const others = JSON.stringify(rest).slice(1)
      const text = `{${JSON.stringify(name)}:${token}${others === '}' ? '' : ','}${others}`
      return attempt(`the token ${token}`, text, { status: 400, ...(isJson ? { field: name } : {}) })
    })
  const notAnObject = fc
    .oneof(fc.jsonValue(), strangeValue)
    .filter(value => !fits(schema, value))
    .map(value =>
      attempt('another value than an object', JSON.stringify(value) ?? 'undefined', { status: 400 }),
    )
  const broken = fc
    .tuple(
      whole.map(body => JSON.stringify(body)),
      fc.nat(),
      fc.constantFrom(...breakages),
    )
    .map(([text, at, [wrong, change]]) => attempt(wrong, change(text, at), { status: 400 }))
  const deep = fc.tuple(fc.integer({ min: 33, max: 4000 }), fc.boolean()).map(([depth, objects]) => {
    const [open, close] = objects ? ['{"a":', '}'] : ['[', ']']
    return attempt('nested deeply', `${open.repeat(depth)}1${close.repeat(depth)}`, {})
  })
  const large = fc
    .integer({ min: 16_385, max: 300_000 })
    .map(bytes => attempt('too large', `{"a":"${'x'.repeat(bytes)}"}`, { status: 413 }))
  const otherType = fc.tuple(whole, fc.constantFrom(...otherTypes)).map(([body, type]): Attempt => {
    const headers: Headers = type === undefined ? [] : [['Content-Type', type]]
    const request = send(operation, who, { headers, body: Buffer.from(JSON.stringify(body)) })
    return { wrong: `content type ${type}`, request }
  })
  const empty = fc.constantFrom(json, []).map((headers): Attempt => {
    return { wrong: 'an empty body', request: send(operation, who, { headers, body: Buffer.alloc(0) }) }
  })
  return [
    oneWrongValue,
    oneMissing,
    oneExtra,
    oneTwice,
    oneRawToken,
    notAnObject,
    broken,
    deep,
    large,
    otherType,
    empty,
  ]
}

/** As text: an object can hold no name twice, and `__proto__` not at all. */
function withMember(body: object, member: string): string {
  const text = JSON.stringify(body).slice(0, -1)
  return `${text}${text === '{' ? '' : ','}${member}}`
}

function targetWays(operation: Operation, who: Credentials): fc.Arbitrary<Attempt>[] {
  const plain = operation.path.replace(/\{[^}]+\}/g, '1')
  const body = operation.body ? { body: Buffer.from('{"not":"valid"}') } : { headers: [] }
  const at = (target: string, wrong: string, more: Partial<Attempt> = {}): Attempt => ({
    wrong,
    request: send(operation, who, { ...body, target }),
    ...more,
  })
  const otherPath = fc
    .constantFrom(...['/', '//', '%00', '%', '%zz', '%ff', '/..', '/x', ';a=b', '.json', '\xe9', ' x', '#x'])
    .map(end => at(plain + end, `the path ends in ${end}`, { mayPass: end === '#x' }))
  const ways = [otherPath]
  const query = operation.parameters.filter(parameter => parameter.in === 'query')
  // A read with a strange query may be answered, but never by a fault of ours.
  if (operation.method === 'GET') {
    const names = fc.oneof(fc.constantFrom('x', ...query.map(({ name }) => name)), queryText)
    ways.push(
      fc.array(fc.tuple(names, queryText), { minLength: 1, maxLength: 4 }).map(pairs => {
        const text = pairs.map(([name, value]) => `${name}=${value}`).join('&')
        return at(`${plain}?${text}`, 'a strange query', { mayPass: true })
      }),
    )
  }
  for (const { name, schema } of query) {
    const wrong = fc
      .constantFrom(...strangeTexts, 'x'.repeat(5000))
      .filter(value => !fits(schema, schema.type === 'integer' ? Number(value || Number.NaN) : value))
    ways.push(
      wrong.map(value =>
        at(`${plain}?${name}=${encodeURIComponent(value)}`, 'a query value', { field: name, status: 400 }),
      ),
    )
  }
  for (const { name, schema } of operation.parameters.filter(parameter => parameter.in === 'path')) {
    const wrong = fc
      .oneof(fc.constantFrom(...strangeTexts), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 }))
      .filter(value => value !== '' && value !== '.' && value !== '..' && !fits(schema, value))
    ways.push(
      wrong.map(value => {
        const target = operation.path.replace(`{${name}}`, encodeURIComponent(value.toWellFormed()))
        return at(target, 'a path value', value.length > 100 ? {} : { field: name, status: 400 })
      }),
    )
  }
  return ways
}

function unexpectedBodyWay(operation: Operation, who: Credentials): fc.Arbitrary<Attempt> {
  const bodies = ['{}', '[1', 'null', '{"a":1}', 'x'.repeat(1000), '"\\u0000"', '\xff', '9'.repeat(20_000)]
  return fc
    .tuple(fc.constantFrom(...bodies), fc.constantFrom(...otherTypes, 'application/json'))
    .map(([text, type]) => {
      const headers: Headers = type === undefined ? [] : [['Content-Type', type]]
      const request = send(operation, who, { headers, body: Buffer.from(text, 'latin1') })
      return { wrong: 'a body where none is asked for', request, mayPass: true }
    })
}

function methodWay(operation: Operation, who: Credentials): fc.Arbitrary<Attempt> {
  const others = [
    'GET',
    'POST',
    'PUT',
    'DELETE',
    'PATCH',
    'OPTIONS',
    'TRACE',
    'PROPFIND',
    'QUERY',
    'get',
    'FOO',
  ]
  return fc.constantFrom(...others.filter(method => method !== operation.method), 'HEAD').map(method => {
    const request = { ...send(operation, who, { headers: [] }), method }
    // HEAD is what GET would have said.
    return { wrong: `method ${method}`, request, mayPass: method === 'HEAD' && operation.method === 'GET' }
  })
}

function credentialWay(operation: Operation, who: Credentials): fc.Arbitrary<Attempt> {
  const { token } = who
  const last = token.at(-1) === 'A' ? 'B' : 'A'
  const bad = [
    [],
    [['Authorization', '']],
    [['Authorization', 'Bearer']],
    [['Authorization', token]],
    [['Authorization', `Basic ${token}`]],
    [['Authorization', `Bearer ${token}x`]],
    [['Authorization', `Bearer ${token.slice(0, -1)}${last}`]],
    [['Authorization', `Bearer ${token.toUpperCase()}`]],
    [['Authorization', `Bearer ${token} ${token}`]],
    [['Authorization', `Bearer ${'x'.repeat(8000)}`]],
    [['Authorization', 'Bearer \xe9\xff']],
    [['Authorization', 'Bearer null']],
    [['Cookie', `moonyetis_session=${token}x`]],
    [['Cookie', 'moonyetis_session=']],
    [['Cookie', 'moonyetis_session=%00%ff%']],
    [['Cookie', `moonyetis_operator=${token}`]],
    [['Cookie', ';;;=;=,"\xe9']],
    // A header that names somebody else is never made up for by the cookie.
    [
      ['Authorization', 'Bearer nobody'],
      ['Cookie', `moonyetis_session=${token}`],
    ],
  ] as [string, string][][]
  const good = operation.body ? valid(operation.body) : fc.constant(undefined)
  return fc.tuple(fc.constantFrom(...bad), good).map(([headers, body]) => {
    const text = body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }
    const request = send(operation, who, { ...text, headers: [] })
    const others = request.headers.filter(([name]) => name !== 'Authorization')
    const types = body === undefined ? [] : json
    return {
      wrong: `credentials ${JSON.stringify(headers)}`,
      request: { ...request, headers: [...others, ...types, ...headers] },
      status: 401,
    }
  })
}

function keyWay(operation: Operation, who: Credentials): fc.Arbitrary<Attempt> {
  const long = 'k'.repeat(256)
  const bad = [
    [],
    [''],
    ['""'],
    ['"'],
    ['"open'],
    ['"a"b"'],
    ['two words'],
    ['tab\there'],
    ['\xe9'],
    ['"\xe9"'],
    [long],
    [`"${long}"`],
    ['one', 'two'],
  ]
  return fc.tuple(fc.constantFrom(...bad), valid(operation.body as never)).map(([keys, body]) => {
    const request = send(operation, who, { body: Buffer.from(JSON.stringify(body)) })
    const others = request.headers.filter(([name]) => name !== 'Idempotency-Key')
    const headers: Headers = [...others, ...keys.map(key => ['Idempotency-Key', key] as const)]
    return { wrong: `Idempotency-Key ${JSON.stringify(keys)}`, request: { ...request, headers }, status: 400 }
  })
}

const strangeTexts = [
  '',
  ' ',
  '0',
  '-1',
  '+1',
  '01',
  '1.0',
  '1e3',
  '0x10',
  '10 ',
  ' 10',
  '10\n',
  '１０',
  '١٠',
  'NaN',
  'Infinity',
  'null',
  'true',
  '1000001',
  '9007199254740993',
  '9'.repeat(40),
  "'; DROP TABLE rounds; --",
  '$1',
  '%s%n',
  '../../etc/passwd',
  '{{7*7}}',
  '\u202e\u200b',
  'İ',
]

const strangeValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    [],
    {},
    [1],
    { a: 1 },
    0,
    -0,
    -1,
    1.5,
    11,
    1e21,
    2 ** 53 - 1,
    '\u0000',
  ),
  fc.constantFrom(...strangeTexts),
  fc.constantFrom('x'.repeat(15_000), '1'.repeat(15_000), '🂡'.repeat(3000)),
  fc.string({ unit: 'grapheme', maxLength: 300 }),
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.jsonValue(),
)

const inheritedNames = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '',
  '$ref',
  'length',
]

/** Tokens for a value, and whether they are JSON, so that the field can be named. */
const rawTokens: [string, boolean][] = [
  ['NaN', false],
  ['Infinity', false],
  ['-Infinity', false],
  ['undefined', false],
  ['1e400', true],
  ['-1e400', true],
  ['9007199254740993', true],
  ['-9007199254740993', true],
  ['18446744073709551616', true],
  ['01', false],
  ['1.', false],
  ['.5', false],
  ['+1', false],
  ['0x1', false],
  ['10n', false],
  ["'1'", false],
  ['"\\u0000"', true],
  ['"\\ud800"', true],
  ['"\\udc00\\ud800"', true],
  ['"\\x41"', false],
  ['"', false],
  ['"\t"', false],
  ['/* 1 */ 1', false],
]

const breakages: [string, (text: string, at: number) => string | Buffer][] = [
  ['cut off', (text, at) => text.slice(0, 1 + (at % (text.length - 1)))],
  ['a comma too many', text => text.replace(/}$/, ',}')],
  ['a second value', text => `${text}${text}`],
  ['single quotes', text => text.replaceAll('"', "'")],
  ['a byte order mark', text => `\ufeff${text}`],
  ['a comment', text => `// hello\n${text}`],
  ['a NUL byte', (text, at) => `${text.slice(0, at % text.length)}\u0000${text.slice(at % text.length)}`],
  [
    'a byte that is no UTF-8',
    (text, at) =>
      Buffer.concat([
        Buffer.from(text.slice(0, at % text.length)),
        Buffer.from([0xff, 0xc0]),
        Buffer.from(text.slice(at % text.length)),
      ]),
  ],
  ['an encoded slash', text => `/${text}`],
  ['nothing but blanks', () => '  \n '],
]

const otherTypes = [
  undefined,
  '',
  'text/plain',
  'application/xml',
  'text/json',
  'json',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'application/jsonp',
  'application/octet-stream',
  '\xe9',
]

const queryText = fc.oneof(
  fc.constantFrom(
    '%',
    '%zz',
    '%00',
    '%ff',
    '%u0041',
    '&&',
    '=',
    '[]',
    '[x]',
    '__proto__',
    '#',
    '?',
    'a=b=c',
    '\xe9',
    "'",
  ),
  fc.constantFrom(...strangeTexts).map(encodeURIComponent),
  fc.string({ unit: 'binary-ascii', maxLength: 100 }).map(encodeURIComponent),
)
