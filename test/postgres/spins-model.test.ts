import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { drawStops } from '#game/draw.ts'
import { evaluate } from '#game/evaluate.ts'
import { recompute } from '#game/recompute.ts'
import { renderSpin } from '#game/render.ts'
import { reconcile } from '#ledger/reconcile.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'
import { newKey, openAccount, openTable, seedKeys, type Table } from '#test/play.ts'
import { openProxy, type TestProxy } from '#test/proxy.ts'

// Random play on few poor accounts, on two servers of which one has a bad connection, with backends killed in between.
// What the database wrote is then played again, one movement at a time, by a model that knows only the seeds.

const seed = Number(process.env.MOONYETIS_SEED) || randomInt(2 ** 31)
const runs = Number(process.env.MOONYETIS_RUNS) || 25

let database: TestDatabase
let tables: Table[]
let proxy: TestProxy
const closing: Array<() => Promise<void>> = []
before(async () => {
  const hooks = { after: (work: () => Promise<void>) => void closing.push(work) }
  database = await openDatabase()
  proxy = await openProxy(hooks, database.target('app'))
  tables = [
    await openTable(hooks, database),
    await openTable(hooks, database, { channelTarget: proxy.target, channel: { answerTimeoutMs: 300 } }),
  ]
})
after(async () => {
  proxy.misfortune = undefined
  for (const close of closing.reverse()) await close()
  await database.close()
})

interface Bet {
  stakePerLine: number
  lines: number
}

type Step =
  | ({ what: 'spin'; account: number; server: number } & Bet)
  /** An earlier spin's key again; with another stake when `other`. */
  | { what: 'repeat'; earlier: number; server: number; other: boolean }
  | { what: 'rotate'; account: number; server: number; clientSeed: string }
  | { what: 'kill' }

const account = fc.nat(2)
const server = fc.nat(1)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      what: fc.constant('spin' as const),
      account,
      server,
      stakePerLine: fc.integer({ min: 1, max: 12 }),
      lines: fc.integer({ min: 1, max: 10 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('repeat' as const),
      earlier: fc.nat(50),
      server,
      other: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('rotate' as const),
      account,
      server,
      clientSeed: fc.stringMatching(/^[A-Za-z0-9_-]{1,8}$/),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ what: 'kill' as const }) },
)

/** Steps of one row go at once. */
const play = fc.record({
  balances: fc.array(fc.bigInt({ min: 0n, max: 300n }), { minLength: 3, maxLength: 3 }),
  rows: fc.array(fc.array(step, { minLength: 1, maxLength: 14 }), { minLength: 2, maxLength: 6 }),
  /** One in so many statements of the second server dies. */
  luck: fc.integer({ min: 3, max: 30 }),
})

interface Call extends Bet {
  accountId: bigint
  key: Buffer
}

type Answer =
  | { call: Call; kind: 'settled'; body: string; replayed: boolean }
  | { call: Call; kind: 'short'; balance: bigint }
  | { call: Call; kind: 'reused' }

test(`whatever the interleaving, books and answers are those of one spin at a time (MOONYETIS_SEED=${seed})`, async () => {
  const accounts: bigint[] = []
  await fc.assert(
    fc.asyncProperty(play, async ({ balances, rows, luck }) => {
      const opened = await Promise.all(balances.map(balance => openAccount(database, { balance })))
      accounts.push(...opened)
      proxy.misfortune = misfortune(luck)
      const answers = await playRows(opened, rows)
      proxy.misfortune = undefined
      for (const [index, accountId] of opened.entries())
        await checkAccount(
          accountId,
          balances[index] as bigint,
          answers.filter(answer => answer.call.accountId === accountId),
        )
    }),
    { seed, numRuns: runs, endOnFailure: true },
  )
  for (const accountId of accounts)
    await tables[0]?.rotation.rotate({ accountId, key: newKey(), clientSeed: 'last' })
  const books = await reconcile({ target: database.target('monitor'), recompute, deep: true })
  assert.deepEqual(
    books.checks.filter(check => check.mismatches > 0n),
    [],
  )
})

function misfortune(luck: number): TestProxy['misfortune'] {
  let statements = 0
  return statement => {
    if (!/settle_spin|rotate_seeds|read_outcomes/.test(statement)) return undefined
    statements++
    if (statements % luck !== 0) return undefined
    return (['lost', 'cut', 'unanswered'] as const)[(statements / luck) % 3]
  }
}

async function playRows(accounts: bigint[], rows: Step[][]): Promise<Answer[]> {
  const calls: Call[] = []
  const answers: Answer[] = []
  const spin = async (call: Call, table: number) => {
    calls.push(call)
    answers.push(await answerOf(call, tables[table] as Table))
  }
  for (const row of rows) {
    await Promise.all(
      row.map(async one => {
        if (one.what === 'spin')
          return spin({ ...one, accountId: accounts[one.account] as bigint, key: newKey() }, one.server)
        if (one.what === 'kill') return killSettlements()
        if (one.what === 'rotate') return rotate(accounts[one.account] as bigint, one)
        const earlier = calls[one.earlier % Math.max(1, calls.length)]
        if (!earlier) return
        const stakePerLine = one.other ? 20 - earlier.stakePerLine : earlier.stakePerLine
        return spin({ ...earlier, stakePerLine }, one.server)
      }),
    )
  }
  return answers
}

/** As a client does: told 503, it asks again with the same key. */
async function answerOf(call: Call, table: Table): Promise<Answer> {
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      return { call, ...(await table.spins.spin(call)) }
    } catch (error) {
      const { code, row } = error as { code?: string; row?: { status: number } }
      if (code === 'IDEMPOTENCY_KEY_REUSED') return { call, kind: 'reused' }
      if (row?.status !== 503) throw error
    }
  }
  throw new Error('a spin was told 503 fifty times')
}

async function rotate(
  accountId: bigint,
  { server: table, clientSeed }: { server: number; clientSeed: string },
): Promise<void> {
  const request = { accountId, key: newKey(), clientSeed }
  const { rotation } = tables[table] as Table
  const first = await rotation.rotate(request)
  const again = await rotation.rotate(request)
  assert.equal(again.body, first.body)
  assert.equal(again.replayed, true)
}

async function killSettlements(): Promise<void> {
  await database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name IN ('test settlement', 'test rotation')`,
  )
}

interface Stored {
  id: bigint
  nonce: bigint
  seed_pair_id: bigint
  stake_per_line: number
  lines: number
  stops: number
  payout: bigint
  balance_after: bigint
  key: string
}

interface Pair {
  server_seed: string
  server_seed_hash: string
  client_seed: string
}

/** Plays the account's rounds again in the order in which the database has them, and holds every answer against that. */
async function checkAccount(accountId: bigint, opening: bigint, answers: Answer[]): Promise<void> {
  const rounds = await database.query<Stored & Record<string, unknown>>(
    `SELECT r.*, replace(i.key::text, '-', '') AS key FROM rounds r
     JOIN idempotency i ON i.account_id = r.account_id AND i.route = 1 AND i.movement_id = r.id
     WHERE r.account_id = $1 ORDER BY r.id`,
    [accountId],
  )
  const pairs = await readPairs(accountId)
  const bodies = new Map<string, string>()
  const balances = [opening]
  const nonces = new Map<bigint, number>()
  let balance = opening
  let lastPair = 0n
  for (const round of rounds) {
    const pair = pairs.get(round.seed_pair_id) as Pair
    const nonce = nonces.get(round.seed_pair_id) ?? 0
    const { stake_per_line: stakePerLine, lines } = round
    const stops = drawStops({ serverSeed: pair.server_seed, clientSeed: pair.client_seed, nonce })
    const payout = BigInt(evaluate({ stops, stakePerLine, lines }))
    const stake = BigInt(stakePerLine * lines)
    assert.ok(balance >= stake, 'no spin without its stake')
    assert.ok(round.seed_pair_id >= lastPair, 'no spin on a pair that was left')
    balance += payout - stake
    assert.partialDeepStrictEqual(round, { nonce: BigInt(nonce), stops, payout, balance_after: balance })
    assert.ok(!bodies.has(round.key), 'one round per key')
    const [serverSeedHash, clientSeed] = [pair.server_seed_hash, pair.client_seed]
    const record = { roundId: round.id, nonce, serverSeedHash, clientSeed, stops, lines, stakePerLine }
    bodies.set(round.key, renderSpin({ ...record, stake, payout, balanceAfter: balance }))
    balances.push(balance)
    nonces.set(round.seed_pair_id, nonce + 1)
    lastPair = round.seed_pair_id
  }
  checkAnswers(answers, { rounds, bodies, balances })
}

function checkAnswers(
  answers: Answer[],
  { rounds, bodies, balances }: { rounds: Stored[]; bodies: Map<string, string>; balances: bigint[] },
): void {
  for (const answer of answers) {
    const { call } = answer
    const key = call.key.toString('hex')
    const stored = rounds.find(round => round.key === key)
    if (answer.kind === 'settled') {
      assert.equal(answer.body, bodies.get(key))
      assert.equal(stored?.stake_per_line, call.stakePerLine)
    } else if (answer.kind === 'short') {
      assert.ok(answer.balance < BigInt(call.stakePerLine * call.lines))
      assert.ok(balances.includes(answer.balance), 'a refusal names a balance that was')
    }
  }
  // Every round was asked for and answered: nobody's chips moved unheard.
  const settled = new Set(
    answers.filter(answer => answer.kind === 'settled').map(answer => answer.call.key.toString('hex')),
  )
  assert.deepEqual(new Set(bodies.keys()), settled)
}

async function readPairs(accountId: bigint): Promise<Map<bigint, Pair>> {
  const rows = await database.query<
    Pair & { id: bigint; sealed_seed: Buffer | null } & Record<string, unknown>
  >(
    'SELECT id, server_seed, sealed_seed, server_seed_hash, client_seed FROM seed_pairs WHERE account_id = $1',
    [accountId],
  )
  return new Map(
    rows.map(row => [
      row.id,
      {
        ...row,
        server_seed: row.sealed_seed ? seedKeys.open(row.sealed_seed, row.server_seed_hash) : row.server_seed,
      },
    ]),
  )
}
