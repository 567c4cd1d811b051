import assert from 'node:assert/strict'
import { test } from 'node:test'
import { roleStatements, wantedRoles } from './bootstrap.ts'

test('every role is made when none exists, none of them mighty', () => {
  const statements = roleStatements([], wantedRoles)
  assert.equal(statements.filter(one => one.startsWith('CREATE ROLE')).length, wantedRoles.length)
  for (const statement of statements)
    assert.ok(!/ (SUPERUSER|CREATEDB|CREATEROLE)\b/.test(statement), statement)
  assert.deepEqual(
    statements.filter(one => / REPLICATION/.test(one)).map(one => one.split(' ')[2]),
    ['moonyetis_replication'],
  )
  assert.ok(statements.includes('GRANT pg_monitor TO moonyetis_monitor'))
})

test('nothing is changed when all is as wanted', () => {
  assert.deepEqual(roleStatements(wantedRoles, wantedRoles), [])
})

test('a role that drifted is put right, one that is half made is completed', () => {
  const existing = wantedRoles.map(role =>
    role.name === 'moonyetis_app' ? { ...role, superuser: true } : { ...role, memberOf: [] },
  )
  assert.deepEqual(roleStatements(existing, wantedRoles), [
    'ALTER ROLE moonyetis_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION',
    'GRANT pg_monitor TO moonyetis_monitor',
    'GRANT pg_read_all_stats TO moonyetis_user',
  ])
})
