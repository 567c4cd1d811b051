import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { newAgeKeyPair } from '#backup/keys/age-keys.ts'
import { ensureSecret, type Home, openHome } from '#lib/home.ts'
import type { ArchiveStatus } from '../archive.ts'
import { archiveCheck, recoveryKeyCheck } from './backups.ts'

const now = new Date('2026-11-24T12:00:00Z')

function newHome(t: TestContext): Home {
  const root = mkdtempSync(join(tmpdir(), 'moonyetis-doctor-'))
  t.after(() => rmSync(root, { recursive: true }))
  return openHome(root)
}

/** The status of an archive that is well, but for what is given. */
function archive(o: { archiver?: object; lastBackup?: { startedAt: string } } = {}): ArchiveStatus {
  const archiver = {
    state: 'streaming',
    reason: null,
    storedLagBytes: 4096,
    storedAt: '2026-11-24T11:59:52Z',
    gaps: [],
    slot: { name: 'moonyetis_archive', restartLsn: '0/1', keepBytes: 1000, leftBytes: 900 },
    ...o.archiver,
  }
  return { archiver, lastBackup: o.lastBackup ?? null } as unknown as ArchiveStatus
}

test('an archive is judged by what it does, its gaps and the room its slot has left', t => {
  const o = { home: newHome(t), isUp: true, now }
  assert.deepEqual(archiveCheck(archive(), o), {
    name: 'archive',
    ok: true,
    seen: 'streaming, 4096 bytes not in the repository yet, stored 8 s ago',
  })
  const waiting = archiveCheck(archive({ archiver: { state: 'waiting', reason: 'the disk is full' } }), o)
  assert.deepEqual([waiting?.ok, waiting?.seen], [false, 'waiting: the disk is full'])
  const gaps = [{ timeline: 1, from: '0/1', to: '0/2', noticedAt: '2026-11-24T10:00:00Z' }]
  assert.match(archiveCheck(archive({ archiver: { gaps } }), o)?.mend ?? '', /backup full/)
  const healed = archive({ archiver: { gaps }, lastBackup: { startedAt: '2026-11-24T10:01:00Z' } })
  assert.equal(archiveCheck(healed, o)?.ok, true)
  const slot = { name: 'x', restartLsn: null, keepBytes: 1000, leftBytes: 50 }
  assert.match(
    archiveCheck(archive({ archiver: { slot } }), o)?.seen ?? '',
    /keeps WAL for 50 bytes more only/,
  )
})

test('an archive that does not answer is missed only where the program runs', t => {
  const home = newHome(t)
  assert.equal(archiveCheck(undefined, { home, isUp: false, now }), undefined)
  assert.equal(archiveCheck(undefined, { home, isUp: true, now })?.ok, false)
})

test('mainnet needs a recovery key whose secret half is somewhere else', t => {
  const home = newHome(t)
  assert.equal(recoveryKeyCheck(home, 'simulated').ok, true)
  assert.match(recoveryKeyCheck(home, 'mainnet').mend ?? '', /moonyetis setup/)
  const { identity, recipient } = newAgeKeyPair()
  ensureSecret(home, 'backup_recipient', () => recipient)
  assert.equal(recoveryKeyCheck(home, 'mainnet').ok, true)
  ensureSecret(home, 'backup_identity', () => identity)
  assert.equal(recoveryKeyCheck(home, 'simulated').ok, true)
  assert.match(recoveryKeyCheck(home, 'mainnet').mend ?? '', /off this server/)
})
