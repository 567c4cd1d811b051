import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { DrillReport, VerifyReport } from '#backup/model.ts'
import type { RestoreResult } from '#backup/restore/restore.ts'
import { debianBin, noDebian } from '#test/backup/archiving.ts'
import { startS3 } from '#test/storage/s3-server.ts'
import { queryAtRest } from '#test/system/databases.ts'
import { prepareMoonYetis } from '#test/system/program.ts'
import { Random } from '#test/system/random.ts'
import { Table } from '#test/system/table.ts'
import { compareRounds, describeLoss, roundsSql, type StoredRound, secondsLost } from '#test/system/told.ts'
import { killEverything, succeed, untilStreaming } from '#test/system/verbs.ts'

const tailSeconds = 1
// The tail that was due when the power went, and what a store that fails costs it.
const slackSeconds = 6

interface Line {
  /** Of the whole line: server, storage. */
  env: NodeJS.ProcessEnv
  /** Where the repository is; without it a directory that outlives the home. */
  repository?: string
  /** Before a step, so that it meets trouble. */
  trouble?: (step: 'backup' | 'play' | 'verify' | 'drill' | 'restore') => Promise<void>
}

/**
 * The whole line, from play to a home restored on a machine that has nothing but the repository and the passphrase.
 * @returns that home
 */
async function wholeLine(t: TestContext, line: Line): Promise<string> {
  const trouble = line.trouble ?? (async () => {})
  const env: NodeJS.ProcessEnv = {
    MOONYETIS_BACKUP__FIRST_AFTER_SECONDS: '86400',
    MOONYETIS_BACKUP__TAIL_SECONDS: String(tailSeconds),
    ...line.env,
  }
  const program = await prepareMoonYetis(t, { env })
  const place = program.place.root
  env.BACKUP_REPOSITORY = line.repository ?? pathToFileURL(join(program.home, 'backups')).href
  const { kit } = await succeed<{ kit: { passphrase: string } }>(program, ['setup'])
  await program.start()
  await untilStreaming(program)
  const table = await Table.seat(t, { program, players: 16, random: Random.fromEnvironment() })
  table.open()
  await trouble('backup')
  const { id } = await succeed<{ id: string }>(program, ['backup', 'full'])
  await trouble('play')
  await table.played(200)
  await trouble('verify')
  const report = await succeed<VerifyReport>(program, ['backup', 'verify', '--open'])
  assert.deepEqual([report.ok, report.wholeBackups], [true, [id]])
  await trouble('drill')
  const drill = await succeed<DrillReport>(program, ['backup', 'drill'])
  assert.deepEqual([drill.ok, drill.backupId], [true, id])

  const killedAtMs = await killEverything(program)
  await table.close()
  for (const part of ['postgres', 'wal-spool', '.secrets', 'state'])
    rmSync(join(program.home, part), { recursive: true })
  const passphraseFile = join(place, 'passphrase')
  writeFileSync(passphraseFile, `${kit.passphrase}\n`)
  const home = join(place, 'restored')
  const bare = await prepareMoonYetis(t, { home: join(place, 'bare'), env })
  await trouble('restore')
  const result = await succeed<RestoreResult>(bare, ['backup', 'restore', '--to', home], {
    env: { MOONYETIS_BACKUP__PASSPHRASE_FILE: passphraseFile },
  })
  assert.deepEqual([result.backupId, result.timeline], [id, 2])
  const [rounds = []] = await queryAtRest<StoredRound[]>(t, home, {
    sql: [roundsSql],
    bin: line.env.MOONYETIS_POSTGRES_BIN,
  })
  const found = compareRounds(table.history, rounds)
  assert.deepEqual(found.different, [])
  assert.ok(secondsLost(found, killedAtMs) <= tailSeconds + slackSeconds, describeLoss(found, killedAtMs))
  t.diagnostic(
    `recovery time in the drill ${drill.rtoSeconds.toFixed(1)} s, restored in ${result.seconds.toFixed(1)} s; ${describeLoss(found, killedAtMs)}`,
  )
  return home
}

test('the whole line in an S3 store that fails again and again', async t => {
  const s3 = await startS3(t)
  await wholeLine(t, {
    repository: s3.url,
    env: {
      S3_ENDPOINT: s3.endpoint,
      MOONYETIS_BACKUP__S3_ACCESS_KEY_ID: s3.accessKeyId,
      MOONYETIS_BACKUP__S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
    },
    trouble: async step => {
      const { inject } = s3.faults
      if (step === 'backup') {
        await inject({ kind: 'error', method: 'PUT', url: '/backups/', status: 503 })
        await inject({ kind: 'drop', method: 'PUT', url: '/backups/' })
        await inject({ kind: 'drop-applied', method: 'PUT', url: '/backups/' })
      } else if (step === 'play') {
        await inject({ kind: 'error', method: 'PUT', url: '/tail/', status: 500, applied: true })
        await inject({ kind: 'drop', method: 'PUT', url: '/tail/' })
      } else {
        await inject({ kind: 'cut', method: 'GET', url: '/backups/', bytes: 1000 })
        await inject({ kind: 'truncate', method: 'GET', url: '/backups/', bytes: 100_000 })
        await inject({ kind: 'error', method: 'GET', url: '/wal/', status: 503 })
        await inject({ kind: 'drop', method: 'GET', url: '/tail/' })
      }
    },
  })
})

test("the whole line on Debian's PostgreSQL 15", { skip: noDebian }, async t => {
  const env = { MOONYETIS_POSTGRES_BIN: debianBin }
  const restored = await prepareMoonYetis(t, { home: await wholeLine(t, { env }), env })
  await restored.start()
  const table = await Table.seat(t, { program: restored, players: 4, random: Random.fromEnvironment() })
  table.open()
  await table.played(20)
  await table.close()
  await succeed(restored, ['reconcile'])
})
