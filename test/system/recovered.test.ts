import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import { verify } from '#game/verify.ts'
import { writeRecoveredFile } from '#postgres/server/recovered-file.ts'
import { Client } from '#test/system/client.ts'
import { type Program, startMoonYetis, until } from '#test/system/program.ts'

interface Round {
  id: string
  nonce: number
  serverSeedHash: string
  serverSeed?: string
  clientSeed: string
  stops: number[]
}

// Several statements' worth of accounts, so that there is a middle to be killed in.
const strangers = 1200
const atOnce = 16
const bet = { stakePerLine: '1', lines: 1 }

async function signIn(client: Client): Promise<string> {
  const { status, body } = await client.send({ method: 'POST', path: '/api/auth/demo' })
  assert.equal(status, 200, body)
  return (JSON.parse(body) as { token: string }).token
}

async function fillWithStrangers(client: Client): Promise<void> {
  let left = strangers
  const one = async () => {
    while (left-- > 0) await signIn(client)
  }
  await Promise.all(Array.from({ length: atOnce }, one))
}

async function spins(client: Client, token: string, count: number): Promise<Round[]> {
  const rounds: Round[] = []
  for (let index = 0; index < count; index++) {
    const answer = await client.json('/api/game/spin', { body: bet, token, key: randomUUID() })
    assert.equal(answer.status, 200, answer.body)
    rounds.push((JSON.parse(answer.body) as { round: Round }).round)
  }
  return rounds
}

/** As people's psql reads. */
async function read<T extends pg.QueryResultRow>(program: Program, sql: string): Promise<T[]> {
  const status = JSON.parse((await run(program, ['status', '--json'])).join('')) as {
    database: { node: { port: number } }
  }
  const client = new pg.Client({
    host: '127.0.0.1',
    port: status.database.node.port,
    user: 'moonyetis_user',
    database: 'moonyetis_slots',
    password: readFileSync(join(program.home, '.secrets', 'db_password'), 'utf8').trim(),
  })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<T>(sql)).rows
  } finally {
    await client.end()
  }
}

async function run(program: Program, args: string[]): Promise<string[]> {
  const launch = program.launch(args)
  await launch.exit()
  return launch.out
}

test('rule 8: a restored database plays only when nothing that players have seen can come back', async t => {
  // No first backup in between: it would only take the processor from what is looked at.
  const program = await startMoonYetis(t, { env: { MOONYETIS_BACKUP__FIRST_AFTER_SECONDS: '86400' } })
  const client = new Client({ url: () => program.url })
  t.after(async () => client.close())
  await fillWithStrangers(client)
  const token = await signIn(client)
  const seen = await spins(client, token, 5)
  await program.stop()
  const data = join(program.home, 'postgres', 'node-a')
  execFileSync('cp', ['-a', data, `${data}.backup`])

  await program.start()
  seen.push(...(await spins(client, token, 5)))
  const rotated = await client.json('/api/game/seeds/rotate', {
    body: { clientSeed: 'mine' },
    token,
    key: randomUUID(),
  })
  assert.equal(rotated.status, 200)
  seen.push(...(await spins(client, token, 5)))
  await program.stop()

  renameSync(data, `${data}.lost`)
  renameSync(`${data}.backup`, data)
  const facts = { id: randomUUID(), at: new Date().toISOString(), cause: 'backup restore', target: 'a test' }
  writeRecoveredFile(data, facts)
  const started = program.launch(['up', '--json'])
  t.after(async () => void started.signal('SIGINT'))

  // Killed in the middle, as soon as some seeds are retired and others are not.
  const refused: string[] = []
  let last = 'no answer'
  await until(
    'the recovery is under way',
    async () => {
      const ready = await client.send({ method: 'GET', path: '/readyz' }).catch(() => undefined)
      if (ready === undefined) return false
      assert.equal(ready.status, 503, 'not ready before it is recovered')
      const spin = await client.json('/api/game/spin', { body: bet, token, key: randomUUID() })
      const session = await client.json('/api/auth/session', { token })
      for (const answer of [spin, session]) {
        assert.equal(answer.status, 503, answer.body)
        refused.push((JSON.parse(answer.body) as { detail: string }).detail)
      }
      last = ready.body
      return /\d+ accounts so far/.test(ready.body)
    },
    120_000,
  ).catch(error => assert.fail(`${error.message}; ${last}; ${started.text}`))
  assert.ok(program.kill('serve'))
  assert.ok(
    refused.some(detail => /restored \(backup restore: a test\)/.test(detail)),
    refused.at(-1) ?? 'nothing was refused',
  )
  await started.line(/"event":"ready"/, 90_000)
  assert.equal((await client.send({ method: 'GET', path: '/readyz' })).status, 200)
  assert.ok(!existsSync(join(data, 'moonyetis.recovered.json')))
  const [recovery] = await read(
    program,
    `SELECT id, cause, finished_at IS NOT NULL AS finished, (facts->>'accountsRetired')::int AS accounts FROM recoveries`,
  )
  const { accounts, ...rest } = recovery as { accounts: number }
  assert.deepEqual(rest, { id: facts.id, cause: 'backup restore', finished: true })
  assert.ok(accounts < strangers, `the second server had ${accounts} accounts left to do`)

  assert.equal((await client.json('/api/auth/session', { token })).status, 401, 'the old session has ended')
  const spin = await client.json('/api/game/spin', { body: bet, token, key: randomUUID() })
  assert.equal(spin.status, 401)
  const drawn = await spins(client, await signIn(client), 5)
  const states = await read<{ state: string; count: string }>(
    program,
    'SELECT state, count(*) FROM seed_pairs GROUP BY 1 ORDER BY 1',
  )
  assert.deepEqual(
    states.map(row => [row.state, Number(row.count)]),
    [
      ['active', strangers + 2],
      ['next', strangers + 2],
      ['retired', 2 * (strangers + 1)],
    ],
  )
  const hashes = seen.map(round => round.serverSeedHash)
  const rows = await read<{ server_seed: string; server_seed_hash: string; id: string | null }>(
    program,
    `SELECT server_seed, server_seed_hash FROM seed_pairs WHERE state = 'retired'
     AND server_seed_hash IN (${[...new Set(hashes)].map(hash => `'${hash}'`).join(', ')})`,
  )
  for (const { serverSeedHash, clientSeed, nonce, stops } of seen) {
    const pair = rows.find(row => row.server_seed_hash === serverSeedHash)
    assert.ok(pair, 'the seed of every round that was seen is public')
    assert.deepEqual(
      verify({ serverSeed: pair.server_seed, clientSeed, nonce, stakePerLine: 1, lines: 1 }).stops,
      stops,
    )
  }
  for (const round of drawn) assert.ok(!hashes.includes(round.serverSeedHash))
  assert.equal((await program.launch(['reconcile', '--deep', '--json']).exit()).code, 0)
  started.signal('SIGINT')
  assert.equal((await started.exit()).code, 0)
})
