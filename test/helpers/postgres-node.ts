import { execFileSync } from 'node:child_process'
import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { createNode, type NodeOptions, type PostgresNode } from '#postgres/server/node.ts'
import { cleanUp, testDirectory, testProgram } from './unprivileged.ts'

/** The ports below are what the tests want; each takes a free one when it is in use. */
const wantedPort = 55_432
/** Settings that keep a test's server small. */
const small = { max_connections: 30, max_wal_size: '128MB', min_wal_size: '32MB' }

/** A node in a directory of its own, not initialised; stopped and removed after the test. */
export function newNode(
  t: Pick<TestContext, 'after'>,
  options: Partial<NodeOptions> & { directory?: string } = {},
): PostgresNode {
  const { postgresBin, programRoot, runAs } = testProgram()
  const { directory = testDirectory(t), ...given } = options
  const socketDirectory = join(directory, 'run')
  mkdirSync(socketDirectory, { recursive: true })
  if (runAs) chownSync(socketDirectory, runAs.uid, runAs.gid)
  const node = createNode({
    name: 'node-a',
    dataDirectory: join(directory, 'node-a'),
    binaries: findBinaries({ bin: postgresBin, programRoot }),
    socketDirectory,
    port: wantedPort,
    logDirectory: join(directory, 'logs'),
    log: silentLog,
    clock: systemClock,
    sharedBuffersMegabytes: 32,
    settings: small,
    runAs,
    ...given,
  })
  cleanUp(t, () => node.stop({ mode: 'immediate', withinMs: 5_000 }))
  return node
}

/** Copies an initialised directory, which is many times faster than initdb. Neither server may run. */
export function cloneDirectory(from: string, to: string): void {
  execFileSync('cp', ['-a', from, to])
}

/** Runs `work` with a connection that is closed after it. */
export async function withClient<T>(
  config: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(config)
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    // A backend that a test has stopped would never say goodbye.
    const ended = client.end().catch(() => {})
    await Promise.race([ended, delay(2_000, undefined, { ref: false })])
  }
}
