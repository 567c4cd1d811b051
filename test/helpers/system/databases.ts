import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type pg from 'pg'
import { databaseName, superuserName } from '#postgres/server/access.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { newNode, withClient } from '../postgres-node.ts'
import { testProgram } from '../unprivileged.ts'
import type { Program } from './program.ts'
import { superviseStatus } from './verbs.ts'

/** As people's psql reads, over loopback. */
export async function query<T extends pg.QueryResultRow>(program: Program, sql: string): Promise<T[]> {
  const { port } = (await superviseStatus(program)).node
  const password = readFileSync(join(program.home, '.secrets', 'db_password'), 'utf8').trim()
  const login = { host: '127.0.0.1', port, user: 'moonyetis_user', password, database: databaseName }
  return withClient(login, async client => (await client.query<T>(sql)).rows)
}

/** What a home holds on which nothing runs: its PostgreSQL alone is started for these and stopped again. */
export async function queryAtRest<T extends pg.QueryResultRow[]>(
  t: Pick<TestContext, 'after'>,
  home: string,
  o: { sql: readonly string[]; bin?: string | undefined },
): Promise<T[]> {
  const { postgresBin, programRoot } = testProgram()
  const binaries = findBinaries({ bin: o.bin ?? postgresBin, programRoot })
  const node = newNode(t, { dataDirectory: join(home, 'postgres', 'node-a'), binaries })
  await node.start(30_000)
  try {
    return await withClient(
      node.connection({ user: superuserName, database: databaseName }),
      async client => {
        const results: T[] = []
        for (const sql of o.sql) results.push((await client.query(sql)).rows as T)
        return results
      },
    )
  } finally {
    await node.stop({ mode: 'fast', withinMs: 20_000 })
  }
}
