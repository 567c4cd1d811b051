import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { newAgeKeyPair } from '#backup/keys/age-keys.ts'
import { KeyRing } from '#backup/keys/ring.ts'
import { layout } from '#backup/layout.ts'
import type { BackupMarker } from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { Failure } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { processesOn } from '#postgres/server/postmaster.ts'
import { idsIn, original, restoreTarget } from '#test/backup/restoring.ts'
import { failOn } from '#test/storage/faulty.ts'
import { until } from '#test/until.ts'

test('what is wrong in a repository, on this disk or with the key ends a restore by its name', async suite => {
  const from = await original(suite)
  const { place, server, archiver } = from
  const { storage, spool } = place
  await from.commit(1)
  const marker = (await from.backup()) as BackupMarker & Required<Pick<BackupMarker, 'database'>>
  const { systemIdentifier } = marker.database
  for (const id of [2, 3, 4, 5]) {
    await from.commit(id)
    await server.write(17 * 1024 * 1024)
  }
  await from.commit(6)
  await archiver.untilStored(await server.flushLsn(), 20_000)
  // Nothing moves any more, and the last bytes are in the spool and in tails.
  await archiver.stop()
  const segments = (await Array.fromAsync(place.repository.segments(systemIdentifier, 1))).map(
    one => one.segment,
  )
  const middle = segments.at(-3) ?? ''
  const object = layout.segment(systemIdentifier, middle)
  const file = join(place.directory, 'repository', object)

  /** The failure, with a directory that cannot be started left behind. */
  const refusal = async (
    directory: string,
    more: Parameters<typeof from.restore>[2] = {},
  ): Promise<Failure> => {
    try {
      await from.restore(directory, {}, { patience: 10, ...more })
    } catch (error) {
      assert.ok(error instanceof Failure, String((error as Error).stack))
      return error
    } finally {
      storage.plan = () => undefined
      storage.release()
    }
    assert.fail('it did not fail')
  }
  const neverPromoted = (directory: string) => {
    assert.ok(existsSync(join(directory, 'RESTORE_INCOMPLETE')))
    const data = join(directory, 'postgres', 'node-a')
    const histories = readdirSync(join(data, 'pg_wal')).filter(name => name.endsWith('.history'))
    assert.deepEqual(histories, [])
    assert.deepEqual(processesOn(data), [])
  }

  await suite.test(
    'a bare machine with the repository and the recovery key gets all that was stored',
    async t => {
      const directory = restoreTarget(t)
      await from.restore(directory, {}, { spool: undefined })
      assert.deepEqual(await idsIn(t, directory), [1, 2, 3, 4, 5, 6])
    },
  )

  await suite.test('a flipped bit in a pack is found before pg_control is there', async t => {
    const directory = restoreTarget(t)
    const pack = marker.database.archives.at(-1)?.packs.at(-1) ?? ''
    storage.plan = failOn({ operation: 'get', key: new RegExp(`^${pack}$`), mishap: { kind: 'flip' } })
    const { code, facts } = await refusal(directory)
    assert.deepEqual([code, facts.object], ['BACKUP_OBJECT_DAMAGED', pack])
    assert.ok(!existsSync(join(directory, 'postgres', 'node-a', 'global', 'pg_control')))
    assert.ok(existsSync(join(directory, 'RESTORE_INCOMPLETE')))
  })

  await suite.test('a flipped bit in a segment ends the recovery', async t => {
    const directory = restoreTarget(t)
    storage.plan = failOn({ operation: 'get', key: new RegExp(middle), mishap: { kind: 'flip' } })
    const { code, facts } = await refusal(directory)
    assert.deepEqual([code, facts.object], ['BACKUP_OBJECT_DAMAGED', object])
    neverPromoted(directory)
  })

  await suite.test('a segment that is missing is refused before anything is written', async t => {
    const directory = restoreTarget(t)
    renameSync(file, `${file}.away`)
    t.after(() => renameSync(`${file}.away`, file))
    const { code, facts } = await refusal(directory)
    assert.equal(code, 'BACKUP_WAL_GAP')
    assert.equal(facts.timeline, 1)
    assert.ok(!existsSync(directory))
  })

  await suite.test('a segment that goes missing meanwhile ends the recovery', async t => {
    const directory = restoreTarget(t)
    t.after(() => existsSync(`${file}.away`) && renameSync(`${file}.away`, file))
    const onProgress = ({ phase }: { phase: string }) => {
      if (phase === 'lay' && existsSync(file)) renameSync(file, `${file}.away`)
    }
    assert.equal((await refusal(directory, { onProgress })).code, 'BACKUP_WAL_GAP')
    neverPromoted(directory)
  })

  await suite.test(
    'a storage that is away for a moment is waited for, one that stays away ends it',
    async t => {
      const short = restoreTarget(t)
      storage.plan = failOn({ operation: 'get', key: new RegExp(middle), times: 2 })
      await from.restore(short)
      assert.deepEqual(await idsIn(t, short), [1, 2, 3, 4, 5, 6])
    },
  )

  for (const where of ['an early', 'the last'] as const) {
    await suite.test(`a flipped byte in ${where} record of the spool is found`, async t => {
      const directory = restoreTarget(t)
      const name = readdirSync(join(spool, systemIdentifier)).find(one => one.endsWith('.partial')) ?? ''
      const path = join(spool, systemIdentifier, name)
      const sound = readFileSync(path)
      t.after(() => writeFileSync(path, sound))
      const bytes = Buffer.from(sound)
      const used = bytes.findLastIndex(byte => byte !== 0)
      const at = where === 'an early' ? 9_000 : used - 30
      bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at)
      writeFileSync(path, bytes)
      const { code, message } = await refusal(directory)
      assert.match(code, /^RESTORE_(WAL_DAMAGED|ENDED_EARLY)$/, message)
      assert.ok(existsSync(join(directory, 'RESTORE_INCOMPLETE')))
    })
  }

  await suite.test('another key opens nothing, and nothing is written', async t => {
    const directory = restoreTarget(t)
    const ring = new KeyRing({ identities: [newAgeKeyPair().identity] })
    const repository = await Repository.open({ storage, ring, log: silentLog })
    assert.equal((await refusal(directory, { repository })).code, 'BACKUP_KEY_NEEDED')
    assert.ok(!existsSync(directory))
  })

  await suite.test('a cancelled restore says so and cannot be started', async t => {
    const directory = restoreTarget(t)
    const cancel = new AbortController()
    const onProgress = ({ phase }: { phase: string }) => {
      if (phase === 'replay') cancel.abort()
    }
    assert.equal((await refusal(directory, { signal: cancel.signal, onProgress })).code, 'RESTORE_CANCELLED')
    neverPromoted(directory)
  })

  await suite.test(
    'when the restoring process is killed, PostgreSQL gives up and does not promote',
    async t => {
      const directory = restoreTarget(t)
      const script = join(import.meta.dirname, '..', 'helpers', 'backup', 'restore-process.ts')
      const child = spawn(process.execPath, [script, place.directory, directory, middle], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      t.after(() => child.kill('SIGKILL'))
      await once(child.stdout, 'data')
      const data = join(directory, 'postgres', 'node-a')
      await until(() => existsSync(join(data, 'postmaster.pid')) && processesOn(data).length > 0)
      child.kill('SIGKILL')
      await once(child, 'close')
      await until(() => processesOn(data).length === 0, 60_000)
      neverPromoted(directory)
      assert.match(readFileSync(join(directory, 'logs', 'postgres', 'recovery.log'), 'utf8'), /FATAL/)
    },
  )
})
