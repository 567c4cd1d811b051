import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { silentLog } from '#lib/log.ts'
import { until } from '#test/until.ts'
import { WalServer, type WalServerOptions } from './wal-server.ts'

const names = Array.from(
  { length: 40 },
  (_, index) => `0000000100000000000000${index.toString(16).toUpperCase().padStart(2, '0')}`,
)

interface Fixture {
  server: WalServer
  directory: string
  asked: string[]
  /** Runs restore_command as PostgreSQL does. */
  get(file: string): Promise<{ code: number | null; content: string | undefined }>
}

function start(t: TestContext, options: Partial<WalServerOptions> = {}): Fixture {
  const root = mkdtempSync(join(tmpdir(), "my wal's %f-"))
  const asked: string[] = []
  const server = WalServer.start({
    directory: join(root, 'server'),
    source: {
      fetch: async file => {
        asked.push(file)
        return names.includes(file) ? Buffer.from(file) : undefined
      },
    },
    expected: names,
    log: silentLog,
    ...options,
  })
  t.after(() => {
    server.close()
    rmSync(root, { recursive: true, force: true })
  })
  const get = (file: string) => runCommand(server.restoreCommand, file, join(root, 'RECOVERYXLOG'))
  return { server, directory: join(root, 'server'), asked, get }
}

async function runCommand(restoreCommand: string, file: string, to: string) {
  rmSync(to, { force: true })
  const command = restoreCommand.replace(
    /%([fp%])/g,
    (_, what) => ({ f: file, p: to, '%': '%' })[what as 'f'],
  )
  const child = spawn('/bin/sh', ['-c', command], { stdio: 'ignore' })
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  let content: string | undefined
  try {
    content = readFileSync(to, 'utf8')
  } catch {
    // Then there is none.
  }
  return { code, content }
}

test('segments come in order, repeated or out of order, and what is not there is told by 1', async t => {
  const { get } = start(t)
  for (const file of [...names.slice(0, 5), names[4], names[1], names[30]] as string[])
    assert.deepEqual(await get(file), { code: 0, content: file })
  assert.equal((await get('00000002.history')).code, 1)
  assert.equal((await get('000000010000000000000000.00000028.backup')).code, 1)
  assert.deepEqual(await get(names[5] as string), { code: 0, content: names[5] })
})

test('eight segments lie ready before they are asked for, and as one is taken the next is fetched', async t => {
  const { asked, get, server } = start(t)
  await until(() => asked.length === 8)
  assert.deepEqual(asked, names.slice(0, 8))
  await get(names[0] as string)
  await until(() => asked.length === 9)
  assert.equal(asked.at(-1), names[8])
  assert.equal(server.behind, 1)
})

test('a source that fails ends the recovery: every client from then on exits above 125', async t => {
  const trouble = new Error('flipped')
  const source = {
    fetch: async (file: string) => {
      if (file === names[3]) throw trouble
      return Buffer.from(file)
    },
  }
  const { get, server } = start(t, { source })
  await until(() => server.failure !== undefined)
  assert.equal(server.failure, trouble)
  for (const file of [names[0], names[3], '00000002.history'] as string[])
    assert.equal((await get(file)).code, 210)
})

test('a server that was closed leaves no command that looks like the end of the log', async t => {
  const { get, server } = start(t)
  server.close()
  assert.equal((await get(names[0] as string)).code, 210)
})

test('a client that waits for a server that has died gives up by itself', async t => {
  const { directory, get } = start(t, { source: { fetch: () => new Promise(() => {}) }, patience: 3 })
  // What a dead server leaves: a directory in which nothing changes any more.
  const copy = `${directory}-left`
  cpSync(directory, copy, { recursive: true })
  rmSync(directory, { recursive: true })
  renameSync(copy, directory)
  assert.equal((await get(names[0] as string)).code, 210)
})
