import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { refuseHalfRestored } from './safety.ts'

test('a home that a restore has not finished is refused', t => {
  const home = mkdtempSync(join(tmpdir(), 'half-restored-'))
  t.after(() => rmSync(home, { recursive: true }))
  refuseHalfRestored(home)
  refuseHalfRestored(join(home, 'absent'))
  writeFileSync(join(home, 'RESTORE_INCOMPLETE'), '')
  assert.throws(() => refuseHalfRestored(home), { code: 'REFUSED' })
})
