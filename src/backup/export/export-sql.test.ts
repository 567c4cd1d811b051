import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { dumpEnvironment, exportNames } from './export-sql.ts'
import { choosePgDump, findPgDump } from './pg-dump.ts'

const tool = (major: number, path = `/pg/${major}/pg_dump`) => ({ path, version: `${major}.1`, major })

describe('finding pg_dump', () => {
  test("the server's own major version is taken before newer ones", () => {
    assert.equal(choosePgDump([tool(18), tool(16), tool(17)], 16)?.major, 16)
  })

  test('without it the oldest newer one is taken, never an older one', () => {
    assert.equal(choosePgDump([tool(15), tool(18), tool(17)], 16)?.major, 17)
    assert.equal(choosePgDump([tool(15), tool(16)], 17), undefined)
  })

  test('of two of one version the one more wanted is taken', () => {
    assert.equal(choosePgDump([tool(16, '/a/pg_dump'), tool(16, '/b/pg_dump')], 16)?.path, '/a/pg_dump')
  })

  test('when there is none, the words say which version is needed and what was found', async () => {
    await assert.rejects(findPgDump({ major: 18, directories: ['/nonexistent'] }), {
      code: 'EXPORT_TOOL_MISSING',
      message: /PostgreSQL 18 needs pg_dump of version 18 or newer\. None was found\./,
      hint: /postgresql-client-18/,
    })
  })
})

describe('exporting', () => {
  test("the name is the guide's, and a second export of a day has the time in it", () => {
    assert.deepEqual(exportNames(new Date('2025-06-25T14:30:05.123Z')), [
      'db-backup-2025-06-25.sql.gz',
      'db-backup-2025-06-25-143005.sql.gz',
    ])
  })

  test('a connection that checks certificates stays one that checks them', () => {
    const target = { host: 'db.example', port: 5432, database: 'd', user: 'u', password: 'p' }
    const sslMode = (ssl: Parameters<typeof dumpEnvironment>[0]['ssl']) =>
      dumpEnvironment({ ...target, ssl }, 18).PGSSLMODE
    assert.equal(sslMode({ rejectUnauthorized: true }), 'verify-full')
    assert.equal(sslMode(true), 'verify-full')
    assert.equal(sslMode({ rejectUnauthorized: false }), 'require')
    assert.equal(sslMode(undefined), undefined)
  })
})
