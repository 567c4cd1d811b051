import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Job } from '#backup/jobs/jobs.ts'
import type { VerifyReport } from '#backup/model.ts'
import type { BackupStatus, BackupSummary } from '#backup/status.ts'
import { type Answer, Client } from '#test/system/client.ts'
import { query } from '#test/system/databases.ts'
import { passTime } from '#test/system/leases.ts'
import { type Program, startMoonYetis, until } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'
import { Table } from '#test/system/table.ts'
import {
  archiveStatus,
  endOf,
  run,
  start,
  succeed,
  superviseStatus,
  untilStreaming,
  untilSynchronous,
} from '#test/system/verbs.ts'

const kills = 2
const availabilitySeconds = 2
const env = {
  MOONYETIS_BACKUP__FIRST_AFTER_SECONDS: '86400',
  MOONYETIS_BACKUP__WAL_MODE: 'sync',
  MOONYETIS_REPLICATION__MODE: 'max-availability',
  MOONYETIS_REPLICATION__AVAILABILITY_TIMEOUT_SECONDS: String(availabilitySeconds),
}

test('backups at work: over HTTP, with an archive that stalls, and killed at any moment', async suite => {
  const random = Random.fromEnvironment()
  suite.diagnostic(`MOONYETIS_SEED=${random.seed}`)
  const program = await startMoonYetis(suite, { env })
  await untilStreaming(program)
  const client = new Client({ url: () => program.url })
  suite.after(() => client.close())
  const whole: string[] = []

  await suite.test(
    'an operator starts a backup and a drill over HTTP, one at a time, and sees the proof',
    async t => {
      const [operator, metrics] = await Promise.all(
        ['operator', 'metrics'].map(async role => {
          const { token } = await succeed<{ token: string }>(program, ['token', 'create', '--role', role])
          return token
        }),
      )
      const post = (path: string, token?: string) =>
        client.json(path, { body: {}, ...(token ? { token } : {}) })
      for (const path of ['/api/monitoring/backups', '/api/monitoring/backups/drill'])
        assert.deepEqual([(await post(path)).status, (await post(path, metrics)).status], [401, 403], path)

      const started = await post('/api/monitoring/backups', operator)
      assert.equal(started.status, 202, started.body)
      const busy = await post('/api/monitoring/backups/drill', operator)
      assert.deepEqual([busy.status, codeOf(busy)], [409, 'BACKUP_BUSY'])
      const backup = await ended(program, started)
      assert.equal(backup.state, 'done', JSON.stringify(backup.error))
      whole.push(String(backup.result?.id))

      const proving = await post('/api/monitoring/backups/drill', operator)
      assert.equal(proving.status, 202, proving.body)
      assert.equal((await ended(program, proving)).state, 'done')
      const seen = await client.json('/api/monitoring/backups')
      assert.equal(seen.status, 200)
      const status = JSON.parse(seen.body) as BackupStatus<{ state: string }>
      assert.deepEqual(
        [status.archiver.state, status.running, status.lastBackup?.id, status.lastVerified?.id],
        ['streaming', null, whole[0], whole[0]],
      )
      const { ok, backupId, rtoSeconds, rpoSeconds } = status.lastDrill ?? {}
      assert.deepEqual([ok, backupId], [true, whole[0]])
      assert.ok((rtoSeconds ?? 0) > 0 && (rpoSeconds ?? -1) >= 0)
      const events = `SELECT action, target FROM audit_events WHERE actor LIKE 'operator:%' AND action LIKE 'backup.%'`
      const targets = async () =>
        (await query<{ target: string }>(program, events)).map(event => event.target)
      await until('both are in the journal', async () => new Set(await targets()).size === 2, 20_000)
      t.diagnostic(`recovery time ${rtoSeconds?.toFixed(1)} s, recovery point ${rpoSeconds} s`)
    },
  )

  await suite.test(
    'in max-availability play goes on without an archive that stands still, and it comes back',
    async t => {
      const table = await Table.seat(t, { program, players: 16, random })
      await untilSynchronous(program)
      table.open()
      await table.played(16)
      program.kill('archive', 'SIGSTOP')
      t.after(() => void program.kill('archive', 'SIGCONT'))
      const stoppedMs = performance.now()
      const isOut = async () => (await superviseStatus(program)).topology?.members.length === 0
      await until('the archive has left the set', isOut, 20_000)
      await table.played(100)
      const waitedMs = performance.now() - stoppedMs
      assert.ok(waitedMs >= availabilitySeconds * 1000, `nobody waited: ${waitedMs} ms`)
      const { synchronous } = await superviseStatus(program)
      assert.match(synchronous?.reason ?? '', /not every commit is known to be with the archive/)
      assert.deepEqual(
        synchronous?.members.map(({ name, member }) => [name, member]),
        [['archive', false]],
      )
      program.kill('archive', 'SIGCONT')
      await untilSynchronous(program)
      await table.close()
    },
  )

  await suite.test('a backup killed at any moment is none, and the next one is not troubled', async t => {
    for (let kill = 0; kill < kills; kill++) {
      const launch = start(program, ['backup', 'full'])
      // The moment is the test's own choice, so it is a delay by design.
      if (random.chance(0.7)) await launch.line(/"event":"progress"/)
      await delay(random.whole(0, 1_000))
      launch.signal('SIGKILL')
      const { events } = await endOf(launch)
      whole.push(...doneIn(events))
      passTime(program, 'backup')
    }
    const done = await succeed<{ id: string }>(program, ['backup', 'full'])
    whole.push(done.id)
    t.diagnostic(`${kills} kills, ${whole.length} whole backups`)
  })

  await suite.test('a backup whose archive is killed fails in words or is whole', async t => {
    const launch = start(program, ['backup', 'full'])
    await launch.line(/"event":"progress"/)
    await delay(random.whole(0, 500))
    assert.ok(program.kill('archive'))
    const { code, events, error, text } = await endOf(launch)
    assert.ok(code === 0 || error !== undefined, text)
    whole.push(...doneIn(events))
    t.diagnostic(code === 0 ? 'it was whole' : `${error?.code}: ${error?.message}`)
    await untilStreaming(program)
  })

  await suite.test('Ctrl-C cancels a backup, says so and leaves nothing', async () => {
    const before = backupDirectories(program)
    const launch = program.launch(['backup', 'full'])
    await until('it has begun to write', () => backupDirectories(program).length > before.length, 30_000)
    launch.signalGroup('SIGINT')
    const { code } = await launch.exit()
    assert.equal(code, 1)
    assert.match(launch.err.join('\n'), /^error: It was cancelled; nothing that looks complete was left\.$/m)
    assert.deepEqual(backupDirectories(program), before)
    await requireWhole(program, whole)
  })
})

function codeOf({ body }: Answer): string {
  return (JSON.parse(body) as { code: string }).code
}

/** The job that was answered, when it has ended. */
async function ended(program: Program, { body }: Answer): Promise<Job> {
  const { id } = JSON.parse(body) as Job
  const find = async () => (await archiveStatus(program)).jobs.find(job => job.id === id)
  await until('the job has ended', async () => (await find())?.finishedAt !== undefined, 60_000)
  return (await find()) as Job
}

/** The id of a backup that was announced as done. */
function doneIn(events: readonly Record<string, unknown>[]): string[] {
  return events.filter(({ event }) => event === 'done').map(({ id }) => String(id))
}

const backupDirectories = ({ home }: Program) => readdirSync(join(home, 'backups', 'backups')).sort()

/** What is listed is whole, all that was announced is listed, and nothing else is found wrong. */
async function requireWhole(program: Program, announced: readonly string[]): Promise<void> {
  const { backups } = await succeed<{ backups: BackupSummary[] }>(program, ['backup', 'list'])
  const listed = backups.map(({ id }) => id)
  for (const id of announced) assert.ok(listed.includes(id), `${id} was announced and is not listed`)
  const { code, events, text } = await run(program, ['backup', 'verify', '--open'])
  const report = events.at(-1) as unknown as VerifyReport
  assert.equal(code, 0, text)
  assert.deepEqual([...report.wholeBackups].sort(), listed.toSorted())
}
