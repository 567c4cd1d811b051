import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { callControl } from '#lib/control.ts'
import { openHome, readSecret } from '#lib/home.ts'
import { processStartTime } from '#lib/processes.ts'
import { dataDirectoryOf } from '#postgres/server/places.ts'
import { isPostmasterAlive, processesOn } from '#postgres/server/postmaster.ts'
import { statusText } from '#roles/status.ts'
import type { SuperviseStatus } from '#roles/supervise.ts'
import { cleanUp, testDirectory } from '#test/unprivileged.ts'

const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts')
const readyWithinMs = 60_000

/** A home that supervise may be started on, again and again; all of it ends with the test. */
function newPlace(t: TestContext) {
  const home = openHome(join(testDirectory(t), 'home'))
  const children: ChildProcess[] = []
  cleanUp(t, async () => {
    for (const child of children) child.kill('SIGKILL')
    for (const pid of processesOn(dataDirectoryOf(home))) process.kill(pid, 'SIGKILL')
  })
  const start = (settings: Record<string, string> = {}) => {
    const own = { PATH: process.env.PATH, MOONYETIS_HOME: home.root, MOONYETIS_POSTGRES__PORT: '55433' }
    const env = { ...own, ...settings }
    const child = spawn(process.execPath, [main, 'supervise'], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    children.push(child)
    return child
  }
  const status = () => callControl<SuperviseStatus>({ path: home.socket('supervise'), route: '/status' })
  return { home, start, status }
}

/** The first status that fits; there is no event across processes. */
async function untilStatus(
  status: () => Promise<SuperviseStatus>,
  fits: (status: SuperviseStatus) => boolean,
): Promise<SuperviseStatus> {
  const untilMs = performance.now() + readyWithinMs
  for (;;) {
    const seen = await status().catch(() => undefined)
    if (seen && fits(seen)) return seen
    assert.ok(performance.now() < untilMs, `last status: ${JSON.stringify(seen)}`)
    await delay(20)
  }
}

async function textOf(child: ChildProcess): Promise<{ code: number | null; text: string }> {
  let text = ''
  child.stderr?.on('data', chunk => {
    text += chunk
  })
  const [code] = await once(child, 'close')
  return { code, text }
}

test('supervise keeps PostgreSQL, alone, and its own death is only its own', async t => {
  const { home, start, status } = newPlace(t)
  const first = start()
  const begun = await untilStatus(status, one => one.ready)
  assert.equal(begun.state, 'Solo')

  const second = await textOf(start())
  assert.equal(second.code, 3)
  assert.match(second.text, /^error: Another process is listening on /)
  assert.equal((await status()).node.pid, begun.node.pid)

  const postmaster = {
    pid: begun.node.pid as number,
    startTime: processStartTime(begun.node.pid as number) as string,
  }
  first.kill('SIGKILL')
  await once(first, 'exit')
  assert.ok(isPostmasterAlive(postmaster))
  const third = start()
  const adopted = await untilStatus(status, one => one.ready)
  assert.deepEqual(
    [adopted.node.pid, adopted.node.systemIdentifier],
    [begun.node.pid, begun.node.systemIdentifier],
  )
  assert.match(adopted.reason, /adopted/)

  process.kill(postmaster.pid, 'SIGKILL')
  const recovered = await untilStatus(status, one => one.ready && one.node.pid !== postmaster.pid)
  assert.equal(recovered.node.systemIdentifier, begun.node.systemIdentifier)

  third.kill('SIGTERM')
  const [code] = await once(third, 'exit')
  assert.equal(code, 0)
  assert.deepEqual(processesOn(dataDirectoryOf(home)), [])
  assert.deepEqual(
    readdirSync(home.run).filter(name => name.endsWith('.sock') || name.endsWith('.pid.json')),
    [],
  )
})

test('with a synchronous archive that is away, commits are held from the first start on, and supervise works', async t => {
  const { home, start, status } = newPlace(t)
  const settings = {
    MOONYETIS_BACKUP__WAL_MODE: 'sync',
    MOONYETIS_BACKUP__SLOT_KEEP_MEGABYTES: '512',
    MOONYETIS_REPLICATION__MODE: 'max-protection',
  }
  const first = start(settings)
  const begun = await untilStatus(status, one => one.ready)
  assert.deepEqual([begun.mode, begun.walMode], ['max-protection', 'sync'])
  const node = begun.node as Required<SuperviseStatus['node']>
  const client = new pg.Client({
    host: '127.0.0.1',
    port: node.port,
    user: 'moonyetis_user',
    password: readSecret(home, 'db_password') ?? '',
    database: 'moonyetis_slots',
  })
  client.on('error', () => {})
  await client.connect()
  assert.equal((await client.query('SHOW max_slot_wal_keep_size')).rows[0].max_slot_wal_keep_size, '512MB')
  const held = client.query(`SELECT pg_logical_emit_message(true, 'test', 'a commit')`)
  let ended = ''
  held.then(
    () => {
      ended = 'acknowledged'
    },
    () => {
      ended = 'cut'
    },
  )
  const blocked = await untilStatus(status, one => one.synchronous?.blockedSince !== undefined)
  assert.equal(blocked.synchronous?.names, 'FIRST 1 (archive)')
  assert.match(
    blocked.synchronous?.reason ?? '',
    /^commits wait for the archive since .*: it is not connected$/,
  )
  assert.match(
    statusText({ home: home.root, up: null, database: blocked, ready: true }),
    /^commits {3}commits wait/m,
  )

  // The next one prepares the same database while commits are held, and comes to the same list.
  first.kill('SIGKILL')
  await once(first, 'exit')
  const second = start(settings)
  const adopted = await untilStatus(status, one => one.ready && one.synchronous?.blockedSince !== undefined)
  assert.equal(adopted.node.pid, begun.node.pid)
  assert.deepEqual(adopted.topology?.members, [])
  assert.equal(adopted.topology?.systemIdentifier, begun.node.systemIdentifier)
  assert.equal(ended, '')

  second.kill('SIGTERM')
  const [code] = await once(second, 'exit')
  assert.equal(code, 0)
  await held.catch(() => {})
  assert.equal(ended, 'cut')
  assert.deepEqual(processesOn(dataDirectoryOf(home)), [])

  // A record about this database, and the database gone.
  renameSync(dataDirectoryOf(home), `${dataDirectoryOf(home)}.away`)
  const refused = await textOf(start(settings))
  assert.equal(refused.code, 3)
  renameSync(`${dataDirectoryOf(home)}.away`, dataDirectoryOf(home))
  assert.match(refused.text, /is about database system \d+, but .* is not there/)
})

test('started by root, nothing of the home is root’s', {
  skip: process.geteuid?.() !== 0 && 'needs root: run the tests with sudo',
}, async t => {
  const { home, start, status } = newPlace(t)
  const child = start()
  const { node } = await untilStatus(status, one => one.ready)
  assert.notEqual(statSync(`/proc/${node.pid}`).uid, 0)
  assert.notEqual(statSync(`/proc/${child.pid}`).uid, 0, 'the very process that root started')
  const owned = readdirSync(home.root, { recursive: true, encoding: 'utf8' }).filter(name => {
    const stats = statSync(join(home.root, name), { throwIfNoEntry: false })
    return stats?.uid === 0
  })
  assert.deepEqual(owned, [])
  child.kill('SIGTERM')
  await once(child, 'exit')
})
