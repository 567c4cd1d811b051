import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { type Attempt, attemptsAt, goodAt } from '#test/system/attempts.ts'
import { Client } from '#test/system/client.ts'
import { History } from '#test/system/history.ts'
import { type Operation, operationsOf } from '#test/system/openapi.ts'
import { Player } from '#test/system/player.ts'
import { type Program, programRoot, startMoonYetis } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'
import { type RawAnswer, sendRaw } from '#test/system/raw.ts'

// Per operation: enough for each way of going wrong to be met many times, and bounded in time on a slow machine.
const runsEach = 400
const limitEachMs = 4_000
const { seed } = Random.fromEnvironment()

const cleanups: (() => Promise<void>)[] = []
let program: Program
let client: Client
let actor: Player
let onlooker: Player
let operations: Operation[]
/** They start something, for whoever may; a test of their own below. */
let forOperators: Operation[]
let secrets: string[]

describe(`whatever is sent, MOONYETIS_SEED=${seed}`, () => {
  before(async () => {
    program = await startMoonYetis({ after: work => void cleanups.push(work) })
    client = new Client({ url: () => program.url })
    const history = new History()
    actor = await Player.signIn({ name: 'actor', client, history })
    onlooker = await Player.signIn({ name: 'onlooker', client, history })
    for (const player of [actor, onlooker]) {
      await player.rotate('rotated', 'mine')
      await player.spin('spun', { stakePerLine: '5', lines: 3 })
    }
    const described = operationsOf((await client.json('/openapi.json')).body)
    operations = described.filter(one => !isForOperators(one))
    forOperators = described.filter(isForOperators)
    secrets = readSecrets(program.home)
  })
  after(async () => {
    client?.close()
    for (const cleanup of cleanups) await cleanup()
  })

  test('every route is described', () => {
    const paths = new Set(operations.map(({ path }) => path))
    for (const path of ['/livez', '/metrics', '/api/auth/demo', '/api/game/spin', '/api/game/rounds/{id}'])
      assert.ok(paths.has(path), path)
  })

  test('what fits the description is taken', async () => {
    const other = await Player.signIn({ name: 'other', client, history: new History() })
    // An operator token that fits may still be nobody's, a stake too high, a round somebody else's.
    const honest = [200, 204, 401, 402, 404]
    for (const operation of operations) {
      const property = fc.asyncProperty(goodAt(operation, other), async request => {
        const { status, body } = await sendRaw(program.port, request)
        assert.ok(honest.includes(status), `${operation.method} ${request.target}: ${status} ${body}`)
        if (status === 401) assert.equal(operation.path, '/api/auth/operator')
      })
      await fc.assert(property, { seed, numRuns: 40, interruptAfterTimeLimit: limitEachMs })
    }
  })

  test('what operators may start refuses players before the body is read, and bad bodies by the field', async () => {
    assert.deepEqual(
      forOperators.map(one => one.path),
      ['/api/monitoring/backups', '/api/monitoring/backups/drill'],
    )
    const token = readFileSync(join(program.home, '.secrets', 'admin_token'), 'utf8').trim()
    const bodies: [body: string, field: string | undefined][] = [
      ['{', undefined],
      ['[]', undefined],
      ['{"label":"--id"}', 'label'],
      ['{"id":"../x"}', 'id'],
      ['{"kind":"everything","id":7}', 'kind'],
      ['{"else":1}', 'else'],
    ]
    for (const { path } of forOperators) {
      for (const [text, field] of bodies) {
        const send = (bearer: string) => {
          const headers = [
            ['Authorization', `Bearer ${bearer}`] as const,
            ['Content-Type', 'application/json'] as const,
          ]
          return sendRaw(program.port, { method: 'POST', target: path, headers, body: Buffer.from(text) })
        }
        const stranger = await send(actor.token)
        assert.equal(stranger.status, 401, stranger.body)
        const answer = await send(token)
        assert.equal(answer.status, 400, `${path} ${text}: ${answer.body}`)
        assertNoLeak(answer.body.replaceAll(token, ''))
        if (field !== undefined) assert.match(answer.body, /"field":"(label|id|kind|else)"/)
      }
    }
  })

  test('nothing is answered with a fault, every refusal says what is wrong, and no state changes', async t => {
    const parts = program.pids()
    const counts = new Map<number, number>()
    for (const operation of operations) {
      await t.test(`${operation.method} ${operation.path}`, async () => {
        const before = await state()
        const property = fc.asyncProperty(attemptsAt(operation, actor), async attempt => {
          const answer = await sendRaw(program.port, attempt.request)
          counts.set(answer.status, (counts.get(answer.status) ?? 0) + 1)
          assertHonest(attempt, answer)
          if (operation.method === 'POST') assert.equal(await position(), before.position)
        })
        await fc.assert(property, { seed, numRuns: runsEach, interruptAfterTimeLimit: limitEachMs })
        assert.deepEqual(await state(), before)
      })
    }
    t.diagnostic(JSON.stringify(Object.fromEntries([...counts].toSorted(([a], [b]) => a - b))))
    assert.deepEqual(program.pids(), parts, 'no part had to be started again')
    assert.equal((await actor.spin('afterwards', { stakePerLine: '1', lines: 1 })).kind, 'ok')
  })
})

function isForOperators({ method, path }: Operation): boolean {
  return method === 'POST' && path.startsWith('/api/monitoring/')
}

/** All that a player can see, of the one who sends and of one who only looks on. */
async function state() {
  const [own, other] = [await actor.books(), await onlooker.books()]
  return { own, other, position: await position() }
}

/** The next nonce and the seeds: moves with every spin and rotation. */
async function position(): Promise<string> {
  return (await client.json('/api/game/seeds', { token: actor.token })).body
}

function assertHonest(attempt: Attempt, answer: RawAnswer): void {
  const { status, headers, body } = answer
  const told = `${attempt.wrong}: ${status} ${body.slice(0, 500)}`
  assert.ok(status < 500, told)
  assertNoLeak(`${[...headers].join('\n')}\n${body}`)
  if (status < 400) {
    assert.ok(attempt.mayPass, `accepted, ${told}`)
    return
  }
  if (attempt.status !== undefined) assert.equal(status, attempt.status, told)
  if (attempt.request.method === 'HEAD') return
  assert.match(headers.get('content-type') ?? '', /^application\/problem\+json(; charset=utf-8)?$/, told)
  const problem = JSON.parse(body) as Record<string, unknown> & {
    errors?: { field: string; message: string }[]
  }
  for (const name of ['type', 'title', 'code', 'detail', 'requestId'])
    assert.ok(typeof problem[name] === 'string' && problem[name] !== '', `${name} is missing, ${told}`)
  assert.equal(problem.status, status, told)
  assert.equal(problem.requestId, headers.get('x-request-id'), told)
  if (problem.code === 'VALIDATION') assertNamesField(attempt, problem.errors ?? [], told)
  else assert.ok(attempt.field === undefined || problem.code !== 'BAD_REQUEST', told)
}

function assertNamesField(
  attempt: Attempt,
  errors: { field: string; message: string }[],
  told: string,
): void {
  assert.ok(errors.length > 0, told)
  for (const { field, message } of errors) assert.ok(typeof field === 'string' && message.length > 0, told)
  if (attempt.field === undefined) return
  const wanted = attempt.field.toWellFormed().slice(0, 50)
  assert.ok(
    errors.some(({ field }) => field.startsWith(wanted)),
    `${JSON.stringify(attempt.field)} is not named, ${told}`,
  )
}

const inside = [
  /\n\s+at .+:\d+:\d+/,
  /node_modules|\.ts:\d+/,
  /\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b .*\b(FROM|SET|VALUES)\b/,
  /\b(seed_pairs|sealed_seed|settle_spins?|postings|pg_catalog|moonyetis_app)\b/,
  /\b(ECONN\w+|ENOENT|EACCES|FST_ERR\w*|22P02|TypeError|SyntaxError)\b/,
]

function assertNoLeak(text: string): void {
  for (const pattern of inside) assert.doesNotMatch(text, pattern)
  for (const secret of [programRoot, program.home, actor.token, onlooker.token, ...secrets])
    assert.ok(!text.includes(secret), `an answer holds ${secret}`)
}

/** Contents of the home's secret files; none where the tests may not read them. */
function readSecrets(home: string): string[] {
  try {
    const directory = join(home, '.secrets')
    const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter(entry =>
      entry.isFile(),
    )
    return files
      .map(file => readFileSync(join(file.parentPath, file.name), 'utf8').trim())
      .filter(text => text !== '')
  } catch {
    return []
  }
}
