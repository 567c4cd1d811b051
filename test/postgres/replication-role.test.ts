import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { silentLog } from '#lib/log.ts'
import { migrate } from '#postgres/client/migrations.ts'
import { databaseName, roleNames, superuserName } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { bootstrapDatabase } from '#postgres/server/bootstrap.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { newNode, withClient } from '#test/postgres-node.ts'
import { testProgram } from '#test/unprivileged.ts'

const passwords = { user: 'people-in-tests', replication: 'archive-in-tests' }
const programRoot = join(import.meta.dirname, '..', '..')
const debian15 = '/usr/lib/postgresql/15/bin'

async function migrated(t: TestContext, bin: string): Promise<PostgresNode> {
  const node = newNode(t, { binaries: findBinaries({ bin, programRoot }) })
  await node.initialise()
  await node.start(60_000)
  // Twice: each start does it again.
  for (let time = 0; time < 2; time++) await bootstrapDatabase({ node, passwords, log: silentLog })
  const connection = node.connection({ user: roleNames.owner, database: databaseName })
  await migrate({ connection, directory: join(programRoot, 'migrations'), log: silentLog })
  return node
}

function skipWithout(path: string): { skip: string | false } {
  return {
    skip: existsSync(path) ? false : `needs ${path}: apt-get install postgresql-15`,
  }
}

for (const [name, bin] of [
  ['embedded PostgreSQL', testProgram().postgresBin],
  ['PostgreSQL 15', debian15],
] as const) {
  test(
    `on ${name} the archive may write its canary and its restore points, and read nothing`,
    skipWithout(bin),
    async t => {
      const node = await migrated(t, bin)
      const { port } = node.running as { port: number }
      const socket = node.connection({ user: roleNames.replication, database: databaseName })
      const password = { ...socket, host: '127.0.0.1', port, password: passwords.replication }
      for (const way of [socket, password]) {
        await withClient(way, async client => {
          const { rows } = await client.query('SELECT sequence, at, lsn FROM write_canary()')
          const { rows: again } = await client.query(
            'SELECT sequence, at, lsn > $1::pg_lsn AS later FROM write_canary()',
            [rows[0].lsn],
          )
          assert.equal(BigInt(again[0].sequence), BigInt(rows[0].sequence) + 1n)
          assert.ok(again[0].at > rows[0].at && again[0].later)
          const { rows: points } = await client.query(
            `SELECT pg_create_restore_point('before the sale') > $1 AS later`,
            [rows[0].lsn],
          )
          assert.deepEqual(points, [{ later: true }])
          for (const table of ['canary', 'recoveries', 'accounts', 'sessions', 'schema_migrations'])
            await assert.rejects(client.query(`SELECT * FROM ${table}`), { code: '42501' }, table)
          await assert.rejects(client.query('CREATE TEMP TABLE t ()'), { code: '42501' })
        })
      }
      await withClient(node.connection({ user: superuserName, database: databaseName }), async client => {
        const { rows } = await client.query(
          `SELECT c.relname FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
           AND (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege($1, c.oid, 'USAGE, SELECT, UPDATE')
                     ELSE has_table_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                       OR has_any_column_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END)`,
          [roleNames.replication],
        )
        assert.deepEqual(rows, [])
        const { rows: functions } = await client.query(
          `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
           AND has_function_privilege($1, oid, 'EXECUTE')`,
          [roleNames.replication],
        )
        assert.deepEqual(functions, [{ proname: 'write_canary' }])
        for (const other of [roleNames.app, roleNames.monitor, roleNames.user]) {
          const { rows: may } = await client.query(
            `SELECT has_function_privilege($1, 'pg_create_restore_point(text)', 'EXECUTE') AS may`,
            [other],
          )
          assert.deepEqual(may, [{ may: false }], other)
        }
      })
    },
  )
}
