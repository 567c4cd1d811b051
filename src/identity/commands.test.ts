import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { type Home, openHome } from '#lib/home.ts'
import { tokenVerbs } from './commands.ts'

let home: Home
let actions: string[] = []

beforeEach(() => {
  home = openHome(mkdtempSync(join(tmpdir(), 'moonyetis-tokens-')))
  actions = []
})

afterEach(() => rmSync(home.root, { recursive: true, force: true }))

async function run(o: { verb: string; options?: Record<string, unknown>; args?: string[]; json?: boolean }) {
  const lines: string[] = []
  const audit = { record: (event: { action: string }) => actions.push(event.action), close() {} }
  const verb = tokenVerbs({ openAudit: () => audit }).find(one => one.name === o.verb)
  const context = { openHome: () => home, json: o.json ?? true, print: (line: string) => lines.push(line) }
  await verb?.run(context, o.options ?? {}, o.args ?? [])
  return lines
}

test('a token is created, listed without its secret, and revoked', async () => {
  const [created = ''] = await run({
    verb: 'token create',
    options: { role: 'operator', label: 'Ana', days: '90' },
  })
  const { id, token, expiresAt } = JSON.parse(created)
  assert.match(token, /^myo_/)
  assert.ok(expiresAt)
  const [listed = ''] = await run({ verb: 'token list' })
  assert.equal(listed.includes(token.slice(-43)), false)
  assert.equal(JSON.parse(listed).tokens[0].state, 'active')
  await run({ verb: 'token revoke', args: [id] })
  const [after = ''] = await run({ verb: 'token list' })
  assert.equal(JSON.parse(after).tokens[0].state, 'revoked')
  assert.deepEqual(actions, ['token.created', 'token.revoked'])
})

test('people get text: the token on a line of its own, and a table', async () => {
  assert.deepEqual(await run({ verb: 'token list', json: false }), ['There are no operator tokens.'])
  const [token, note = ''] = await run({ verb: 'token create', options: { role: 'metrics' }, json: false })
  assert.match(token ?? '', /^myo_[0-9a-f]{12}_[\w-]{43}$/)
  assert.match(note, /until it is revoked.*not shown again/)
  const table = await run({ verb: 'token list', json: false })
  assert.match(table[0] ?? '', /^ID +ROLE +STATE +CREATED +ENDS +LABEL$/)
  assert.match(table[1] ?? '', /^[0-9a-f]{12} +metrics +active +\d{4}-.*Z +never$/)
})

test('wrong usage is exit 2 and names the mend', async () => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{}, /--role is missing: give admin, operator, metrics/],
    [{ role: 'root' }, /--role cannot be "root"/],
    [{ role: 'admin', days: '0' }, /1 to 3650/],
    [{ role: 'admin', days: '1e3' }, /1 to 3650/],
    [{ role: 'admin', label: 'a\u001b[2J' }, /printable/],
    [{ role: 'admin', label: 'x'.repeat(101) }, /printable/],
  ]
  for (const [options, message] of wrong) {
    await assert.rejects(run({ verb: 'token create', options }), { code: 'USAGE', message })
  }
  assert.deepEqual(actions, [])
})
