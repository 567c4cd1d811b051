import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { recompute } from '#game/recompute.ts'
import { type Reconciliation, reconcile } from '#ledger/reconcile.ts'
import { addReconcile } from '#roles/commands/reconcile.ts'
import { runProgram } from '#roles/program.ts'
import { openDatabase, type TestDatabase } from '#test/database.ts'
import { newKey, openAccount, openTable } from '#test/play.ts'

/** Books with wins, losses, refusals, rotations, replays and a grant in the middle; nobody is connected. */
let played: TestDatabase
before(async () => {
  played = await openDatabase()
  const closing: Array<() => Promise<void>> = []
  const table = await openTable({ after: work => void closing.push(work) }, played)
  for (const balance of [1_000_000n, 5000n, 30n]) {
    const accountId = await openAccount(played, { balance })
    const spin = (key = newKey()) => table.spins.spin({ accountId, key, stakePerLine: 2, lines: 5 })
    const key = newKey()
    for (let turn = 0; turn < 3; turn++) {
      await Promise.all([1, 2, 3, 4].map(() => spin()))
      await spin(key)
      if (turn < 2) await table.rotation.rotate({ accountId, key: newKey(), clientSeed: `turn-${turn}` })
    }
  }
  for (const close of closing) await close()
})
after(() => played.close())

function look(database: TestDatabase, o: { deep?: boolean } = {}): Promise<Reconciliation> {
  return reconcile({ target: database.target('monitor'), recompute, ...o })
}

test('books after play are whole, by a role that may only read them', async () => {
  const books = await look(played)
  assert.deepEqual(failed(books), [])
  assert.equal(books.clean, true)
  for (const check of books.checks) assert.ok(check.rows > 0n, `${check.name} looked at nothing`)
})

// A round of the active pair whose balance leaves room, and one of a revealed pair.
const live = `(SELECT min(r.id) FROM rounds r JOIN accounts a ON a.seed_pair_id = r.seed_pair_id
  WHERE r.balance_after > r.payout + 100)`
const revealed = `(SELECT min(r.id) FROM rounds r JOIN seed_pairs p ON p.id = r.seed_pair_id
  WHERE p.state = 'revealed')`
const anyAccount = '(SELECT min(id) FROM accounts)'
const lastOfPair = `(SELECT max(id) FROM rounds WHERE account_id = ${anyAccount})`
const poorer = `(SELECT min(balance) + 7 FROM accounts WHERE id = ${anyAccount})`

const breaks: Array<{ wrong: string; check: string; sql: string }> = [
  {
    wrong: 'a view that hides one side of some postings',
    check: 'entries',
    sql: `CREATE OR REPLACE VIEW entries AS
      SELECT movement_id, source AS account_id, -amount AS amount, kind, created_at FROM postings
      UNION ALL SELECT movement_id, destination, amount, kind, created_at FROM postings WHERE kind <> 2`,
  },
  {
    wrong: 'a balance changed by hand',
    check: 'balances',
    sql: `UPDATE accounts SET balance = balance + 1 WHERE id = ${anyAccount}`,
  },
  {
    wrong: 'a debt, consistently booked',
    check: 'not-negative',
    sql: `ALTER TABLE accounts DROP CONSTRAINT accounts_balance_check; ALTER TABLE rounds DROP CONSTRAINT rounds_check;
      ALTER TABLE postings DROP CONSTRAINT postings_amount_check;
      CREATE TEMP TABLE cut AS SELECT ${poorer} AS amount;
      UPDATE postings SET amount = amount - (SELECT amount FROM cut) WHERE kind = 3 AND destination = ${anyAccount};
      UPDATE rounds SET balance_after = balance_after - (SELECT amount FROM cut) WHERE account_id = ${anyAccount};
      UPDATE accounts SET balance = balance - (SELECT amount FROM cut) WHERE id = ${anyAccount}`,
  },
  {
    wrong: 'a grant out of an account that is not in the house',
    check: 'posting-accounts',
    sql: `UPDATE postings SET source = 9 WHERE kind = 3 AND destination = ${anyAccount}`,
  },
  {
    wrong: 'a round that says it paid more than was posted',
    check: 'round-postings',
    sql: `UPDATE rounds SET payout = payout + 1 WHERE id = ${live}`,
  },
  {
    wrong: 'a stake and a payout of no round',
    check: 'round-postings',
    sql: `INSERT INTO postings (movement_id, source, destination, amount, kind)
      SELECT 90000, ${anyAccount}, 1, 5, 1 UNION ALL SELECT 90000, 1, ${anyAccount}, 5, 2`,
  },
  {
    wrong: 'a stake that was posted in two parts',
    check: 'round-postings',
    sql: `UPDATE postings SET amount = amount - 1 WHERE kind = 1 AND movement_id = ${live};
      INSERT INTO postings (movement_id, source, destination, amount, kind)
      SELECT movement_id, source, destination, 1, 1 FROM postings WHERE kind = 1 AND movement_id = ${live}`,
  },
  {
    wrong: 'a balance in a round that the postings do not give',
    check: 'balance-chain',
    sql: `UPDATE rounds SET balance_after = balance_after + 1 WHERE id = ${live}`,
  },
  {
    wrong: 'an account that plays on its next pair',
    check: 'seed-pairs',
    sql: `UPDATE accounts a SET seed_pair_id =
      (SELECT p.id FROM seed_pairs p WHERE p.account_id = a.id AND p.state = 'next') WHERE id = ${anyAccount}`,
  },
  {
    wrong: 'a nonce that was left out',
    check: 'nonces',
    sql: `UPDATE rounds SET nonce = nonce + 1 WHERE id = ${lastOfPair}`,
  },
  {
    wrong: 'a nonce that was allotted and not played',
    check: 'nonces',
    sql: `UPDATE accounts SET next_nonce = next_nonce + 1 WHERE id = ${anyAccount}`,
  },
  {
    wrong: 'a revealed pair that counts another number of rounds',
    check: 'nonces',
    sql: `UPDATE seed_pairs SET rounds = rounds + 1 WHERE id = (SELECT min(id) FROM seed_pairs)`,
  },
  {
    wrong: 'two rounds that changed their nonces',
    check: 'nonce-order',
    sql: `UPDATE rounds SET nonce = 1 - nonce WHERE nonce < 2
      AND seed_pair_id = (SELECT seed_pair_id FROM accounts WHERE id = ${anyAccount})`,
  },
  {
    wrong: 'a key that was lost',
    check: 'keys',
    sql: `DELETE FROM idempotency WHERE movement_id = ${live}`,
  },
  {
    wrong: 'a second key for one round',
    check: 'keys',
    sql: `INSERT INTO idempotency (account_id, route, key, request_hash, movement_id)
      SELECT account_id, route, gen_random_uuid(), request_hash, movement_id FROM idempotency
      WHERE movement_id = ${live}`,
  },
  {
    wrong: 'a key whose payload is not that of its round',
    check: 'keys',
    sql: `UPDATE idempotency SET request_hash = request_hash + 1 WHERE movement_id = ${live}`,
  },
  {
    wrong: 'a commitment that was swapped after the reveal',
    check: 'commitments',
    sql: `ALTER TABLE seed_pairs DROP CONSTRAINT seed_pairs_check4;
      UPDATE seed_pairs SET server_seed_hash = repeat('ab', 32) WHERE id = (SELECT min(id) FROM seed_pairs)`,
  },
  {
    wrong: 'stops that the seeds do not give',
    check: 'draws',
    sql: `UPDATE rounds SET stops = stops # 1 WHERE id = ${revealed}`,
  },
  {
    wrong: 'rounds under rules that this program does not know',
    check: 'draws',
    sql: `UPDATE game_versions SET hash = 'elsewhere'`,
  },
]

for (const { wrong, check, sql } of breaks) {
  test(`${check} finds ${wrong}, and only it does`, async t => {
    const copy = await played.copy()
    t.after(() => copy.close())
    await copy.query(`SET session_replication_role = replica; ${sql}`)
    const books = await look(copy)
    assert.deepEqual(failed(books), [check])
    assert.equal(books.clean, false)
    const result = books.checks.find(one => one.name === check)
    assert.ok(result && result.examples.length > 0 && result.examples.length <= 5)
  })
}

test('rounds are recomputed in pages, and only when asked for or few', async t => {
  const copy = await played.copy()
  t.after(() => copy.close())
  const [before] = (await look(copy)).checks.filter(check => check.name === 'draws')
  // Twelve thousand copies of revealed rounds, under nonces that are not theirs: the first page cannot hold them.
  await copy.query(`SET session_replication_role = replica;
    INSERT INTO rounds (id, account_id, seed_pair_id, nonce, payout, balance_after, stake_per_line, stops, lines, game_version)
    SELECT 1000000 + n, r.account_id, r.seed_pair_id, n, r.payout, r.balance_after, r.stake_per_line, r.stops, r.lines,
           r.game_version
    FROM rounds r CROSS JOIN generate_series(100, 12099) AS n WHERE r.id = ${revealed}`)
  const seen: bigint[] = []
  const books = await reconcile({
    target: copy.target('monitor'),
    recompute,
    onProgress: ({ check, done }) => check === 'draws' && seen.push(done),
  })
  const draws = books.checks.find(check => check.name === 'draws')
  assert.equal(draws?.rows, (before?.rows as bigint) + 12_000n)
  assert.ok((draws?.mismatches as bigint) > 11_000n)
  assert.equal(draws?.examples.length, 5)
  assert.deepEqual(seen, [0n, 5000n, 10_000n])
  const shallow = (await look(copy, { deep: false })).checks.find(check => check.name === 'draws')
  assert.equal(shallow?.skipped, 'not asked for')
  await copy.query(`SET session_replication_role = replica; UPDATE seed_pairs SET rounds = 300000 WHERE id =
    (SELECT min(id) FROM seed_pairs WHERE state = 'revealed')`)
  const many = (await look(copy)).checks.find(check => check.name === 'draws')
  assert.match(String(many?.skipped), /--deep/)
  const asked = (await look(copy, { deep: true })).checks.find(check => check.name === 'draws')
  assert.equal(asked?.skipped, undefined)
})

test('live play does not disturb it: one moment is seen through all checks', async t => {
  const database = await openDatabase()
  t.after(() => database.close())
  const table = await openTable(t, database)
  const accounts = await Promise.all([1, 2, 3, 4].map(() => openAccount(database)))
  let playing = true
  const play = async (accountId: bigint) => {
    for (let turn = 0; playing; turn++) {
      await table.spins.spin({ accountId, key: newKey(), stakePerLine: 1, lines: 10 })
      if (turn % 5 === 4) await table.rotation.rotate({ accountId, key: newKey(), clientSeed: 'again' })
    }
  }
  const players = accounts.map(play)
  for (let look_ = 0; look_ < 4; look_++) assert.deepEqual(failed(await look(database)), [])
  playing = false
  await Promise.all(players)
})

test('the command prints a table or one document, and exits 1 on a mismatch', async t => {
  const copy = await played.copy()
  t.after(() => copy.close())
  const whole = await command(copy, [])
  assert.equal(whole.exit, 0, whole.text)
  assert.match(whole.text, /^check +rows +mismatches\nentries +\d+ +0\n/)
  assert.match(whole.text, /\nthe books are whole \(as of 2\d{3}-.*Z\)\n$/)
  await copy.query(`UPDATE accounts SET balance = balance + 1 WHERE id = ${anyAccount}`)
  const broken = await command(copy, [])
  assert.equal(broken.exit, 1)
  assert.match(broken.text, /balances +3 +1 {2}first ids: 1000\n/)
  assert.match(broken.text, /THE BOOKS ARE NOT WHOLE .*: balances\n$/)
  const json = await command(copy, ['--json', '--no-deep'])
  assert.equal(json.exit, 1)
  const document = JSON.parse(json.text)
  assert.equal(document.clean, false)
  const balances = document.checks.find((check: { name: string }) => check.name === 'balances')
  assert.deepEqual(
    { rows: balances.rows, mismatches: balances.mismatches, examples: balances.examples },
    { rows: '3', mismatches: '1', examples: ['1000'] },
  )
  assert.equal(document.checks.at(-1).skipped, 'not asked for')
})

test('the command says so when there is no database', async () => {
  const { exit, errors } = await command(
    played,
    [],
    'postgres://moonyetis_monitor@127.0.0.1:1/moonyetis_slots',
  )
  assert.equal(exit, 1)
  assert.match(errors, /database is not reachable/)
})

function failed(books: Reconciliation): string[] {
  return books.checks.filter(check => check.mismatches > 0n).map(check => check.name)
}

async function command(
  database: TestDatabase,
  args: string[],
  url = urlOf(database),
): Promise<{ exit: number; text: string; errors: string }> {
  let text = ''
  let errors = ''
  const exit = await runProgram({
    args: ['reconcile', ...args],
    env: {
      MOONYETIS_TOPOLOGY: 'external',
      DATABASE_URL: url,
      MOONYETIS_HOME: '/tmp/moonyetis-reconcile-test',
    },
    stdout: part => {
      text += part
    },
    stderr: part => {
      errors += part
    },
    addVerbs: [addReconcile],
  })
  return { exit, text, errors }
}

function urlOf(database: TestDatabase): string {
  const { host, port, user } = database.target('monitor')
  return `postgres://${user}@${encodeURIComponent(host)}:${port}/${database.name}`
}
