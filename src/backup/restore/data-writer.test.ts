import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { DataWriter } from './data-writer.ts'

test('an archive goes nowhere but to the data directory and its tablespaces, whatever its name says', t => {
  const place = mkdtempSync(join(tmpdir(), 'my-lay-'))
  t.after(() => rmSync(place, { recursive: true }))
  const dataDirectory = join(place, 'data')
  const tablespaceDirectory = join(place, 'tablespaces')
  const writer = new DataWriter({
    backupId: 'b',
    dataDirectory,
    tablespaceDirectory,
    manifest: [],
    durable: false,
  })
  for (const name of ['../outside', '16385/../../outside', '/etc', '', 'Base', '1\n'])
    assert.throws(() => writer.archive(name, '/srv/fast'), {
      code: 'BACKUP_OBJECT_DAMAGED',
      message: /^backups\/b\/COMPLETE is damaged: it names an archive "/,
    })
  assert.deepEqual(readdirSync(place), [])
  writer.archive('16385', '/srv/fast')
  assert.ok(existsSync(join(tablespaceDirectory, '16385')))
})
