import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { DrillReport } from '#backup/model.ts'
import type { BackupSummary } from '#backup/status.ts'
import { queryAtRest } from '#test/system/databases.ts'
import type { Launch } from '#test/system/launch.ts'
import { passTime } from '#test/system/leases.ts'
import { type Program, prepareMoonYetis, until } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'
import { Table } from '#test/system/table.ts'
import {
  compareRounds,
  lostRotations,
  roundsSql,
  type StoredRound,
  type StoredSeed,
  seedsSql,
} from '#test/system/told.ts'
import {
  endOf,
  killEverything,
  start,
  succeed,
  superviseStatus,
  untilSynchronous,
} from '#test/system/verbs.ts'

// MOONYETIS_KILLS and MOONYETIS_SEED choose how many kills and which; the seed is printed.
const kills = Number(process.env.MOONYETIS_KILLS) || 200
const killsPerRound = 20
const drilledAtEnd = 4
const env = {
  MOONYETIS_BACKUP__FIRST_AFTER_SECONDS: '86400',
  MOONYETIS_BACKUP__TAIL_SECONDS: '1',
  MOONYETIS_BACKUP__WAL_MODE: 'sync',
  MOONYETIS_REPLICATION__MODE: 'max-protection',
}
const say = (line: string) => process.stdout.write(`${line}\n`)

test(`an archive killed ${kills} times in play loses no spin and spoils no backup`, async t => {
  const random = Random.fromEnvironment()
  say(`MOONYETIS_SEED=${random.seed}`)
  const program = await prepareMoonYetis(t, { env })
  const roles = await startRoles(t, program)
  const table = await Table.seat(t, { program, players: 32, random })
  table.open()
  for (let killed = 0; killed < kills; ) {
    const count = Math.min(killsPerRound, kills - killed)
    await killInPlay(program, { roles, random, count })
    killed += count
    await proveRound(program, table, killed)
  }
  const ids = await completeBackups(program)
  const [newest, ...older] = ids
  assert.ok(newest)
  const chosen = older.toSorted(() => random.next() - 0.5).slice(0, drilledAtEnd)
  for (const id of [...chosen, newest]) await drill(program, id)
  await succeed(program, ['backup', 'verify', '--open'])

  await killEverything(program)
  await table.close()
  rmSync(join(program.home, 'postgres'), { recursive: true })
  const home = join(program.place.root, 'restored')
  await succeed(program, ['backup', 'restore', '--to', home])
  const results = await queryAtRest(t, home, { sql: [roundsSql, seedsSql] })
  const found = compareRounds(table.history, results[0] as StoredRound[])
  assert.deepEqual([found.lost, found.different], [[], []])
  assert.ok(found.untold <= found.unanswered)
  assert.deepEqual(lostRotations(table.history, results[1] as StoredSeed[]), [])
  say(`${found.told} acknowledged spins, ${ids.length} complete backups`)
})

interface Roles {
  archive: Launch
}

/** Without `up`, which would wait longer and longer before it starts the archive again. */
async function startRoles(t: TestContext, program: Program): Promise<Roles> {
  program.launch(['supervise'])
  await until(
    'PostgreSQL is ready',
    async () => (await superviseStatus(program).catch(() => undefined))?.ready ?? false,
    90_000,
  )
  const archive = program.launch(['archive'])
  await untilSynchronous(program)
  program.launch(['serve'])
  const isServing = () =>
    fetch(`${program.url}/readyz`).then(
      answer => answer.ok,
      () => false,
    )
  await until('the game is served', isServing, 60_000)
  t.after(() => killEverything(program).then(() => {}))
  return { archive }
}

/** Kills the archive again and again; now and then beside a full backup, which may be killed too. */
async function killInPlay(
  program: Program,
  o: { roles: Roles; random: Random; count: number },
): Promise<void> {
  const { roles, random } = o
  const backups: Promise<unknown>[] = []
  for (let kill = 0; kill < o.count; kill++) {
    // One in four dies while it starts, the others while they receive and store.
    if (random.chance(0.75)) await roles.archive.line(/WAL streaming began/)
    if (random.chance(0.15)) backups.push(backUp(program, random))
    // The moment is the test's own choice, so it is a delay by design.
    await delay(random.whole(0, 1_500))
    roles.archive.signal('SIGKILL')
    await roles.archive.exit()
    // Else the next ones would never live long enough to store anything.
    if (random.chance(0.5)) passTime(program, 'archive-*')
    roles.archive = program.launch(['archive'])
  }
  await Promise.all(backups)
}

/** A full backup that may end in any way. */
async function backUp(program: Program, random: Random): Promise<void> {
  passTime(program, 'backup')
  const launch = start(program, ['backup', 'full'])
  if (random.chance(0.5)) {
    await delay(random.whole(0, 4_000))
    launch.signal('SIGKILL')
  }
  const { code, signal, error, text } = await endOf(launch)
  assert.ok(code === 0 || signal === 'SIGKILL' || error !== undefined, text)
}

/** Play goes on, a backup can be made, and it can be proven. */
async function proveRound(program: Program, table: Table, killed: number): Promise<void> {
  await untilSynchronous(program)
  await table.played(100)
  passTime(program)
  const { id } = await succeed<{ id: string }>(program, ['backup', 'full'])
  await drill(program, id)
  say(`${killed} kills, ${table.acknowledged} acknowledged spins`)
}

async function completeBackups(program: Program): Promise<string[]> {
  const { backups } = await succeed<{ backups: BackupSummary[] }>(program, ['backup', 'list'])
  return backups.map(({ id }) => id)
}

async function drill(program: Program, id: string): Promise<void> {
  const report = await succeed<DrillReport>(program, ['backup', 'drill', '--id', id])
  assert.ok(report.ok)
}
