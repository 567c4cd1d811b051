import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { type ManualClock, manualClock } from '#lib/clock.ts'
import { type Home, openHome } from '#lib/home.ts'
import { Operators } from './operators.ts'
import { newPlayerToken } from './tokens.ts'

interface Recorded {
  actor: string
  action: string
  target: string
  detail: Record<string, string | number>
}

let home: Home
let clock: ManualClock
let recorded: Recorded[] = []
let operators: Operators
let opened: Operators[] = []

beforeEach(() => {
  home = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-operators-')))
  clock = manualClock()
  recorded = []
  operators = open()
})

afterEach(() => {
  for (const one of opened) one.close()
  opened = []
  rmSync(home.root, { recursive: true, force: true })
})

function open(): Operators {
  const audit = { record: (event: Recorded) => recorded.push(event) }
  const one = new Operators({ home, audit, config: { operatorSessionHours: 12 }, clock })
  opened.push(one)
  return one
}

test('a token is somebody from its creation to its revocation, in every process', () => {
  const other = open()
  const made = operators.createToken({ role: 'operator', label: 'Ana', actor: 'cli:ana' })
  assert.deepEqual(other.authenticate(made.token), { id: made.id, role: 'operator', label: 'Ana' })
  other.revokeToken(made.id, 'cli:ben')
  assert.equal(operators.authenticate(made.token), undefined)
  assert.deepEqual(
    recorded.map(({ actor, action, target }) => [actor, action, target]),
    [
      ['cli:ana', 'token.created', made.id],
      ['cli:ben', 'token.revoked', made.id],
    ],
  )
})

test('a token ends with its days', () => {
  const { token, expiresAt } = operators.createToken({ role: 'metrics', days: 2, actor: 'cli' })
  assert.equal(expiresAt?.toISOString(), '2026-01-03T00:00:00.000Z')
  clock.advance(2 * 86_400_000 - 1)
  assert.ok(operators.authenticate(token))
  clock.advance(1)
  assert.equal(operators.authenticate(token), undefined)
  assert.equal(operators.listTokens()[0]?.state, 'ended')
})

test('a session lasts its hours, and ends earlier with its token or with signing out', () => {
  const { id, token } = operators.createToken({ role: 'admin', actor: 'cli' })
  const first = operators.signIn(token, '192.0.2.1')
  assert.deepEqual(first.operator, { id, role: 'admin', label: '' })
  assert.deepEqual(operators.authenticate(first.session), first.operator)
  operators.signOut(first.session)
  assert.equal(operators.authenticate(first.session), undefined)

  const second = operators.signIn(token, '192.0.2.1')
  clock.advance(12 * 3_600_000 - 1)
  assert.ok(operators.authenticate(second.session))
  clock.advance(1)
  assert.equal(operators.authenticate(second.session), undefined)

  const third = operators.signIn(token, '192.0.2.1')
  operators.revokeToken(id, 'cli')
  assert.equal(operators.authenticate(third.session), undefined)
})

test('the id alone, another secret, or a session in place of a token opens nothing', () => {
  const { id, token } = operators.createToken({ role: 'admin', actor: 'cli' })
  const { session } = operators.signIn(token, '192.0.2.1')
  const other = operators.createToken({ role: 'metrics', actor: 'cli' }).token
  const forged = `myo_${id}_${other.slice(-43)}`
  for (const text of [
    '',
    id,
    `myo_${id}_`,
    forged,
    `${token}A`,
    newPlayerToken(),
    session.replace('mys_', 'myo_'),
  ]) {
    assert.equal(operators.authenticate(text), undefined, text)
    assert.throws(() => operators.signIn(text, '192.0.2.1'), { code: 'IDENTITY_TOKEN_REFUSED' })
  }
  assert.throws(() => operators.signIn(session, '192.0.2.1'), { code: 'IDENTITY_TOKEN_REFUSED' })
})

test('refused sign-ins are recorded, but not more than ten a minute', () => {
  const attempt = () => assert.throws(() => operators.signIn('myo_guess', '192.0.2.1'))
  for (let i = 0; i < 25; i++) attempt()
  assert.equal(recorded.length, 10)
  clock.advance(60_000)
  attempt()
  assert.deepEqual(recorded[10], {
    actor: 'anonymous',
    action: 'operator.refused',
    target: 'no token',
    detail: { from: '192.0.2.1', leftOut: 15 },
  })
})

test('neither the files nor the journal hold a token', () => {
  const { token } = operators.createToken({ role: 'admin', label: 'x', actor: 'cli' })
  const { session } = operators.signIn(token, '192.0.2.1')
  assert.throws(() => operators.signIn(`${token.slice(0, -1)}!`, '192.0.2.1'))
  const bytes = readdirSync(home.state).map(name => readFileSync(join(home.state, name), 'latin1'))
  for (const text of [...bytes, JSON.stringify(recorded)]) {
    for (const secret of [token, session]) assert.equal(text.includes(secret.slice(-43)), false)
  }
})

test('the first admin token is made once, private, and stays gone when its file is removed', () => {
  const path = join(home.secrets, 'admin_token')
  assert.equal(operators.ensureAdminToken(), true)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const token = readFileSync(path, 'utf8').trim()
  assert.equal(operators.authenticate(token)?.role, 'admin')
  assert.equal(operators.ensureAdminToken(), false)
  rmSync(path)
  assert.equal(open().ensureAdminToken(), false)
  assert.throws(() => statSync(path), { code: 'ENOENT' })
  operators.revokeToken(operators.listTokens()[0]?.id ?? '', 'cli')
  assert.equal(operators.ensureAdminToken(), false)
})

test('a start that was killed between file and store is finished by the next one', () => {
  const { token } = (() => {
    const lost = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-lost-')))
    const one = new Operators({
      home: lost,
      audit: { record() {} },
      config: { operatorSessionHours: 1 },
      clock,
    })
    const made = one.createToken({ role: 'admin', actor: 'system' })
    one.close()
    rmSync(lost.root, { recursive: true })
    return made
  })()
  writeFileSync(join(home.secrets, 'admin_token'), `${token}\n`, { mode: 0o600 })
  assert.equal(operators.ensureAdminToken(), true)
  assert.equal(operators.authenticate(token)?.role, 'admin')
})

test('a strange file in place of the first admin token is refused, not believed', () => {
  writeFileSync(join(home.secrets, 'admin_token'), 'hunter2\n')
  assert.throws(() => operators.ensureAdminToken(), { code: 'IDENTITY_ADMIN_TOKEN_UNUSABLE' })
  assert.equal(operators.listTokens().length, 0)
})

test('nothing is made or opened when the journal cannot be written', () => {
  const { token } = operators.createToken({ role: 'operator', actor: 'cli' })
  const broken = new Operators({
    home,
    audit: {
      record: () => {
        throw new Error('disk full')
      },
    },
    config: { operatorSessionHours: 1 },
    clock,
  })
  opened.push(broken)
  assert.throws(() => broken.createToken({ role: 'admin', actor: 'cli' }), /disk full/)
  assert.throws(() => broken.signIn(token, '192.0.2.1'), /disk full/)
  assert.equal(broken.listTokens().length, 1)
})

test('a token keeps at most fifty sessions; the oldest ends first', () => {
  const { token } = operators.createToken({ role: 'operator', actor: 'cli' })
  const sessions = Array.from({ length: 51 }, () => {
    clock.advance(1)
    return operators.signIn(token, '192.0.2.1').session
  })
  assert.equal(operators.authenticate(sessions[0] ?? ''), undefined)
  assert.ok(operators.authenticate(sessions[1] ?? ''))
  assert.ok(operators.authenticate(sessions[50] ?? ''))
})

test('revoking an unknown token says so, and revoking twice is harmless', () => {
  assert.throws(() => operators.revokeToken('nothing', 'cli'), { code: 'IDENTITY_TOKEN_UNKNOWN' })
  const { id } = operators.createToken({ role: 'operator', actor: 'cli' })
  const first = operators.revokeToken(id, 'cli')
  clock.advance(1000)
  assert.deepEqual(operators.revokeToken(id, 'cli'), first)
  assert.equal(recorded.length, 2)
})
