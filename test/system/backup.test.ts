import assert from 'node:assert/strict'
import { chmodSync, cpSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { DrillReport, RestorePoint } from '#backup/model.ts'
import type { RestoreResult } from '#backup/restore/restore.ts'
import { Client } from '#test/system/client.ts'
import { query, queryAtRest } from '#test/system/databases.ts'
import { Player } from '#test/system/player.ts'
import { type Program, prepareMoonYetis, until } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'
import {
  leaksInFiles,
  leaksInProcesses,
  passwordHashes,
  secret,
  secretsOf,
  tokenSecret,
} from '#test/system/secrets.ts'
import { Table } from '#test/system/table.ts'
import {
  compareRounds,
  describeLoss,
  lostRotations,
  roundsSql,
  type StoredRound,
  type StoredSeed,
  secondsLost,
  seedsSql,
  toldHashes,
} from '#test/system/told.ts'
import {
  archiveStatus,
  endOf,
  killEverything,
  start,
  succeed,
  superviseStatus,
  untilSynchronous,
} from '#test/system/verbs.ts'

const players = 64
const tailSeconds = 2
// The tail that was due when the power went, on a machine with two cores for all of this.
const slackSeconds = 5
const env = {
  MOONYETIS_BACKUP__FIRST_AFTER_SECONDS: '86400',
  MOONYETIS_BACKUP__TAIL_SECONDS: String(tailSeconds),
}
const sync = { MOONYETIS_BACKUP__WAL_MODE: 'sync', MOONYETIS_REPLICATION__MODE: 'max-protection' }

/** Moments between two spins of one player. */
interface Between {
  before: string
  time: string
  lsn: string
  point: string
  after: string
}

test('what was acknowledged outlives the database, and what comes back can be played on', async suite => {
  const random = Random.fromEnvironment()
  suite.diagnostic(`MOONYETIS_SEED=${random.seed}`)
  const old = await prepareMoonYetis(suite, { env: { ...env, ...sync } })
  const place = old.place.root
  const pulled = join(place, 'pulled')
  const { kit } = await succeed<{ kit: { passphrase: string } }>(old, ['setup'])
  await old.start()
  await untilSynchronous(old)
  const table = await Table.seat(suite, { program: old, players, random })
  let between: Between
  let killedAtMs = 0

  await suite.test('of two full backups at once one is made, and no secret is seen', async t => {
    table.open()
    await table.played(200)
    const both = [start(old, ['backup', 'full']), start(old, ['backup', 'full'])]
    const ended = Promise.all(both.map(endOf))
    const { leaks, processes } = await leaksInProcesses(place, secretsOf(old.home), ended)
    const outcomes = (await ended).map(({ code, error }) => [code, error?.code]).sort()
    assert.deepEqual(outcomes, [
      [0, undefined],
      [3, 'BACKUP_BUSY'],
    ])
    assert.deepEqual(leaks, [])
    t.diagnostic(`${processes} processes were looked at`)
    await table.played(200)
  })

  await suite.test('in max-protection nothing is acknowledged while the archive stands still', async t => {
    old.kill('archive', 'SIGSTOP')
    t.after(() => void old.kill('archive', 'SIGCONT'))
    const reason = async () => (await superviseStatus(old)).synchronous?.reason ?? ''
    await until('commits wait', async () => /commits wait for the archive since/.test(await reason()), 20_000)
    const before = table.acknowledged
    const impatient = new Client({ url: () => old.url, timeoutMs: 3_000 })
    t.after(() => impatient.close())
    const { name, token } = table.players[0] as Player
    const held = new Player({ name, token, client: impatient, history: table.history })
    const { kind } = await held.spin('held', { stakePerLine: '1', lines: 1 })
    assert.equal(kind, 'unknown')
    assert.equal(table.acknowledged, before)
    old.kill('archive', 'SIGCONT')
    await table.played(players)
    await table.close()
  })

  await suite.test('after the power has failed in play, no secret lies in what was written', async () => {
    between = await nameMoments(old, table)
    table.open()
    await table.played(400)
    killedAtMs = await killEverything(old)
    await table.close()
    rmSync(join(old.home, 'postgres'), { recursive: true })
    const tokens = table.players.map(({ token }) => tokenSecret(token))
    const secrets = [...secretsOf(old.home), ...tokens, passwordHashes]
    // WAL in the spool is plain by design, as in PostgreSQL's own directory.
    const isWal = (path: string) => /^wal-spool\/\d+\/([0-9A-F]{24}|spare)/.test(path)
    const isSearched = (path: string) => /^(backups|logs|wal-spool)\//.test(path) && !isWal(path)
    const { leaks, files, bytes } = leaksInFiles(old.home, secrets, isSearched)
    assert.deepEqual(leaks, [])
    assert.ok(files > 10 && bytes > 1_000_000, `${files} files, ${bytes} bytes`)
    cpSync(join(old.home, 'backups'), pulled, { recursive: true })
    makeReadOnly(pulled)
  })

  const restored = await prepareMoonYetis(suite, { home: join(place, 'restored'), env })
  await suite.test('restored to the latest, each spin and rotation is there once, as told', async t => {
    const result = await succeed<RestoreResult>(old, ['backup', 'restore', '--to', restored.home])
    assert.deepEqual([result.target, result.timeline], ['latest', 2])
    await startWhole(t, restored)
    const rounds = await query<StoredRound>(restored, roundsSql)
    const { told, lost, different, untold, unanswered } = compareRounds(table.history, rounds)
    assert.deepEqual([lost, different], [[], []])
    assert.ok(untold <= unanswered, `${untold} rounds nobody was told of, ${unanswered} without an answer`)
    assert.deepEqual(lostRotations(table.history, await query<StoredSeed>(restored, seedsSql)), [])
    await succeed(restored, ['reconcile', '--deep'])
    t.diagnostic(`${told} acknowledged spins, restored in ${result.seconds.toFixed(1)} s`)
  })

  await suite.test('what players have seen does not come back to life', async t => {
    const client = new Client({ url: () => restored.url })
    t.after(() => client.close())
    const sessions = table.players.map(({ token }) => client.json('/api/auth/session', { token }))
    for (const { status } of await Promise.all(sessions)) assert.equal(status, 401)
    const shown = toldHashes(table.history)
    const seeds = await query<StoredSeed>(restored, seedsSql)
    const alive = seeds.filter(pair => shown.has(pair.hash) && ['active', 'next'].includes(pair.state))
    assert.deepEqual(alive, [])
  })

  await suite.test('restored between two spins, the first is there and the second is not', async t => {
    const { time, lsn, point, before, after } = between
    const targets = [
      ['--time', time],
      ['--lsn', lsn],
      ['--name', point],
    ] as const
    const homes = targets.map(([option]) => join(place, `to${option}`))
    const restoring = targets.map((target, index) =>
      succeed<RestoreResult>(old, ['backup', 'restore', '--to', homes[index] as string, ...target]),
    )
    await Promise.all(restoring)
    const sql = `SELECT id::text FROM rounds WHERE id IN (${before}, ${after})`
    for (const home of homes) {
      const [rows] = await queryAtRest<{ id: string }[]>(t, home, { sql: [sql] })
      assert.deepEqual(rows, [{ id: before }], home)
    }
  })

  await suite.test('a bare machine restores from repository and passphrase what was stored', async t => {
    // The old machine is gone with everything on it.
    rmSync(old.home, { recursive: true })
    const passphraseFile = join(place, 'passphrase')
    writeFileSync(passphraseFile, `${kit.passphrase}\n`)
    const bare = await prepareMoonYetis(t, { home: join(place, 'bare') })
    const home = join(place, 'from pulled')
    const restoring = succeed<RestoreResult>(bare, ['backup', 'restore', '--to', home], {
      env: {
        BACKUP_REPOSITORY: pathToFileURL(pulled).href,
        MOONYETIS_BACKUP__PASSPHRASE_FILE: passphraseFile,
      },
    })
    const passphrase = secret('the passphrase', kit.passphrase)
    assert.deepEqual((await leaksInProcesses(place, [passphrase], restoring)).leaks, [])
    await restoring
    const [rounds = []] = await queryAtRest<StoredRound[]>(t, home, { sql: [roundsSql] })
    const found = compareRounds(table.history, rounds)
    assert.deepEqual(found.different, [])
    t.diagnostic(`recovery point of the repository alone: ${describeLoss(found, killedAtMs)}`)
    assert.ok(secondsLost(found, killedAtMs) <= tailSeconds + slackSeconds)
  })

  const second = await Table.seat(suite, { program: restored, players, random })
  await suite.test('the restored home is backed up and drilled on its own timeline, in play', async t => {
    second.open()
    await second.played(100)
    const { id } = await succeed<{ id: string }>(restored, ['backup', 'full'])
    const { backups } = await archiveStatus(restored)
    const listed = backups.map(backup => [backup.id, backup.database?.timeline])
    assert.deepEqual(listed, [[id, 2]])
    const drill = await succeed<DrillReport>(restored, ['backup', 'drill'])
    assert.deepEqual([drill.ok, drill.backupId], [true, id])
    t.diagnostic(
      `drill: recovery time ${drill.rtoSeconds.toFixed(1)} s, recovery point ${drill.rpoSeconds} s`,
    )
  })

  await suite.test('a second archive of one repository waits while the first one lives', async t => {
    const repository = pathToFileURL(join(restored.home, 'backups')).href
    const other = await prepareMoonYetis(t, {
      home: join(place, 'to--time'),
      env: { ...env, BACKUP_REPOSITORY: repository },
    })
    for (const role of ['supervise', 'archive']) other.launch([role])
    const status = () => archiveStatus(other).catch(() => undefined)
    const isHeld = async () => /archives this database since/.test((await status())?.archiver.reason ?? '')
    await until('it waits', isHeld, 30_000)
    const { state, storedLsn } = (await archiveStatus(other)).archiver
    assert.deepEqual([state, storedLsn], ['waiting', null])
    assert.equal((await archiveStatus(restored)).archiver.state, 'streaming')
    await killEverything(other)
  })

  await suite.test('without a synchronous archive, what a power failure costs is measured', async t => {
    second.open()
    await second.played(400)
    const atMs = await killEverything(restored)
    await second.close()
    rmSync(join(restored.home, 'postgres'), { recursive: true })
    const home = join(place, 'from async')
    const { timeline } = await succeed<RestoreResult>(restored, ['backup', 'restore', '--to', home])
    assert.equal(timeline, 3)
    const [rounds = []] = await queryAtRest<StoredRound[]>(t, home, { sql: [roundsSql] })
    const first = compareRounds(table.history, rounds)
    const found = compareRounds(second.history, rounds)
    assert.deepEqual([first.lost, first.different, found.different], [[], [], []])
    // No spin of the second life drew from a seed of the first.
    const shown = toldHashes(table.history)
    assert.deepEqual(
      [...toldHashes(second.history)].filter(hash => shown.has(hash)),
      [],
    )
    t.diagnostic(`recovery point with walMode async: ${describeLoss(found, atMs)}`)
    assert.ok(secondsLost(found, atMs) < slackSeconds, 'the archive was far behind')
  })
})

async function nameMoments(program: Program, table: Table): Promise<Between> {
  const [player] = await table.join(1)
  assert.ok(player)
  const spin = async (key: string) => {
    const outcome = await player.spin(key, { stakePerLine: '1', lines: 1 })
    assert.ok(outcome.kind === 'ok')
    return (JSON.parse(outcome.body) as { round: { id: string } }).round.id
  }
  const before = await spin('before')
  const [moment] = await query<{ time: string; lsn: string }>(
    program,
    `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time,
            pg_current_wal_insert_lsn()::text AS lsn`,
  )
  assert.ok(moment)
  const { name } = await succeed<RestorePoint>(program, ['restore-point', 'between-two-spins'])
  return { before, ...moment, point: name, after: await spin('after') }
}

/** For everybody, root's other users included. */
function makeReadOnly(directory: string): void {
  for (const name of ['.', ...readdirSync(directory, { recursive: true, encoding: 'utf8' })]) {
    const path = join(directory, name)
    chmodSync(path, statSync(path).isDirectory() ? 0o555 : 0o444)
  }
}

/** Starts a restored home; nobody is let in before the seeds are retired. */
async function startWhole(t: TestContext, program: Program): Promise<void> {
  const marker = join(program.home, 'postgres', 'node-a', 'moonyetis.recovered.json')
  assert.ok(existsSync(marker))
  const client = new Client({ url: () => program.url })
  t.after(() => client.close())
  const starting = program.start()
  const isReady = async () => {
    const answer = await client.send({ method: 'GET', path: '/readyz' }).catch(() => undefined)
    if (answer?.status === 200) assert.ok(!existsSync(marker), 'ready before it is recovered')
    return answer?.status === 200
  }
  await Promise.all([starting, until('it is ready', isReady, 60_000)])
}
