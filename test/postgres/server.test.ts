import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import type pg from 'pg'
import { silentLog } from '#lib/log.ts'
import { processStartTime } from '#lib/processes.ts'
import { bootstrapDatabase } from '#postgres/server/bootstrap.ts'
import type { ExitFacts, PostgresNode } from '#postgres/server/node.ts'
import { processesOn } from '#postgres/server/postmaster.ts'
import { cloneDirectory, newNode, withClient } from '#test/postgres-node.ts'
import { cleanUp, testDirectory, testProgram } from '#test/unprivileged.ts'

const startWithinMs = 60_000
const superuser = { user: 'postgres', database: 'postgres' }
const passwords = { user: 'for-people', replication: 'for-the-replica' }

let template: PostgresNode
// A hook given inside a hook would run with it, so the template's end is kept for later.
const endings: (() => unknown)[] = []
before(async () => {
  template = newNode({ after: ending => endings.push(ending as () => unknown) })
  await template.initialise()
})
after(async () => {
  for (const ending of endings) await ending()
})

/** A node on a copy of the fresh directory. */
function freshNode(
  t: Parameters<typeof newNode>[0],
  options: Parameters<typeof newNode>[1] = {},
): PostgresNode {
  const directory = options.directory ?? testDirectory(t)
  if (!existsSync(join(directory, 'node-a')))
    cloneDirectory(template.dataDirectory, join(directory, 'node-a'))
  return newNode(t, { ...options, directory })
}

test('a new directory has checksums, the builtin C.UTF-8 collation, UTF8 and UTC', async t => {
  const node = freshNode(t)
  const running = await node.start(startWithinMs)
  assert.equal(running.adopted, false)
  await withClient(node.connection(superuser), async client => {
    assert.equal(await show(client, 'data_checksums'), 'on')
    assert.equal(await show(client, 'server_encoding'), 'UTF8')
    assert.equal(await show(client, 'timezone'), 'UTC')
    assert.equal(await show(client, 'fsync'), 'on')
    assert.equal(await show(client, 'synchronous_commit'), 'on')
    const { rows } = await client.query(
      `SELECT datlocprovider AS provider, datlocale AS locale FROM pg_database WHERE datname = 'template0'`,
    )
    assert.deepEqual(rows, [{ provider: 'b', locale: 'C.UTF-8' }])
  })
  assert.equal(await node.stop({ mode: 'fast', withinMs: 20_000 }), 'stopped')
  assert.deepEqual(processesOn(node.dataDirectory), [])
})

test('the roles have their places and nobody else gets in', async t => {
  const node = freshNode(t)
  const { port } = await node.start(startWithinMs)
  const identity = await bootstrapDatabase({ node, passwords, log: silentLog })
  assert.match(identity.systemIdentifier, /^\d+$/)
  assert.equal(identity.timeline, 1)
  const database = 'moonyetis_slots'
  for (const user of ['moonyetis_owner', 'moonyetis_app', 'moonyetis_monitor']) {
    assert.equal(await whoAmI(node.connection({ user, database })), user)
  }
  const tcp = { host: '127.0.0.1', port, database, user: 'moonyetis_user', ssl: false }
  assert.equal(await whoAmI({ ...tcp, password: passwords.user }), 'moonyetis_user')
  await assert.rejects(whoAmI({ ...tcp, password: 'wrong' }), { code: '28P01' })
  // No line of pg_hba.conf fits these.
  await assert.rejects(whoAmI({ ...tcp, user: 'postgres', password: passwords.user }), { code: '28000' })
  await assert.rejects(whoAmI({ ...tcp, database: 'postgres', password: passwords.user }), { code: '28000' })
  await assert.rejects(whoAmI(node.connection({ user: 'moonyetis_user', database })), { code: '28000' })
  await withClient(node.connection({ user: 'moonyetis_app', database }), async client => {
    await assert.rejects(client.query('CREATE TABLE t ()'), { code: '42501' })
    await assert.rejects(client.query('CREATE TEMP TABLE t ()'), { code: '42501' })
    await assert.rejects(client.query('CREATE ROLE r'), { code: '42501' })
  })
  await withClient({ ...tcp, password: passwords.user }, async client => {
    await assert.rejects(client.query('CREATE TEMP TABLE t ()'), { code: '42501' })
    await assert.rejects(client.query('SELECT lo_create(0)'), { code: '42501' })
    await assert.rejects(client.query('SELECT lo_from_bytea(0, $1)', [Buffer.from('x')]), { code: '42501' })
    // Every settlement holds this one shared.
    await assert.rejects(client.query('SELECT pg_advisory_lock(7236190)'), { code: '42501' })
    await assert.rejects(client.query('SELECT pg_try_advisory_xact_lock(7236190)'), { code: '42501' })
  })
  const dangerous = `SELECT rolname FROM pg_roles WHERE rolname LIKE 'moonyetis%' AND (rolsuper OR rolcreaterole OR rolcreatedb)`
  await withClient(node.connection(superuser), async client => {
    assert.deepEqual((await client.query(dangerous)).rows, [])
  })
})

test('a second bootstrap changes nothing, a changed password takes effect, and no log shows a password', async t => {
  const node = freshNode(t, { settings: { log_statement: 'all', log_min_duration_statement: 0 } })
  const { port } = await node.start(startWithinMs)
  const roles = () =>
    withClient(node.connection(superuser), async client => (await client.query(roleRows)).rows)
  await bootstrapDatabase({ node, passwords, log: silentLog })
  const first = await roles()
  await bootstrapDatabase({ node, passwords, log: silentLog })
  assert.deepEqual(await roles(), first, 'row versions are the same')
  const changed = { ...passwords, user: 'changed-by-hand' }
  await bootstrapDatabase({ node, passwords: changed, log: silentLog })
  const tcp = { host: '127.0.0.1', port, database: 'moonyetis_slots', user: 'moonyetis_user', ssl: false }
  assert.equal(await whoAmI({ ...tcp, password: changed.user }), 'moonyetis_user')
  await node.stop({ mode: 'fast', withinMs: 20_000 })
  const logs = readdirSync(node.logDirectory).map(name => readFileSync(join(node.logDirectory, name), 'utf8'))
  assert.match(logs.join(''), /CREATE ROLE moonyetis_app/, 'the log does hold statements')
  for (const password of [passwords.user, passwords.replication, changed.user]) {
    assert.ok(!logs.join('').includes(password))
  }
})

test('a drifted role is put right at the next start', async t => {
  const node = freshNode(t)
  await node.start(startWithinMs)
  await bootstrapDatabase({ node, passwords, log: silentLog })
  await withClient(node.connection(superuser), client => client.query('ALTER ROLE moonyetis_app SUPERUSER'))
  await bootstrapDatabase({ node, passwords, log: silentLog })
  await withClient(node.connection(superuser), async client => {
    const { rows } = await client.query(`SELECT rolsuper FROM pg_roles WHERE rolname = 'moonyetis_app'`)
    assert.deepEqual(rows, [{ rolsuper: false }])
  })
})

test('a server outlives its supervisor and the next one adopts it and sees its end', async t => {
  const directory = testDirectory(t)
  const first = freshNode(t, { directory })
  const started = await first.start(startWithinMs)
  const second = newNode(t, { directory })
  const adopted = await second.start(startWithinMs)
  assert.deepEqual(
    { pid: adopted.pid, port: adopted.port, adopted: adopted.adopted },
    { pid: started.pid, port: started.port, adopted: true },
  )
  const exits = [exitOf(first), exitOf(second)]
  process.kill(started.pid, 'SIGKILL')
  const [asParent, asAdopter] = await Promise.all(exits)
  assert.deepEqual(asParent, { postmaster: started.pid, code: null, signal: 'SIGKILL' })
  assert.deepEqual(asAdopter, { postmaster: started.pid })
  const again = await second.start(startWithinMs)
  assert.notEqual(again.pid, started.pid)
})

test('an orphaned backend that holds the shared memory does not block the start after kill -9', async t => {
  const node = freshNode(t)
  const { pid } = await node.start(startWithinMs)
  await withClient(node.connection(superuser), async client => {
    const backend = (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]
      ?.pid as number
    // Stopped, it cannot notice that its postmaster died.
    process.kill(backend, 'SIGSTOP')
    const exit = exitOf(node)
    process.kill(pid, 'SIGKILL')
    await exit
    assert.ok(processStartTime(backend), 'the orphan is there')
    await node.start(startWithinMs)
    assert.equal(processStartTime(backend), undefined)
  })
  assert.equal(await whoAmI(node.connection(superuser)), 'postgres')
})

test('a postmaster.pid and a socket lock whose number now belongs to a stranger are removed', async t => {
  const node = freshNode(t)
  const { port, pid } = await node.start(startWithinMs)
  const exit = exitOf(node)
  process.kill(pid, 'SIGKILL')
  await exit
  await node.stop({ mode: 'fast', withinMs: 5_000 })
  const stranger = spawn('sleep', ['600'], { ...testProgram().runAs, cwd: '/' })
  cleanUp(t, () => stranger.kill('SIGKILL'))
  await once(stranger, 'spawn')
  const { socketDirectory } = { socketDirectory: join(dirname(node.dataDirectory), 'run') }
  for (const file of [
    join(node.dataDirectory, 'postmaster.pid'),
    join(socketDirectory, `.s.PGSQL.${port}.lock`),
  ]) {
    const text = existsSync(file)
      ? readFileSync(file, 'utf8')
      : `0\n${node.dataDirectory}\n1\n${port}\n${socketDirectory}\n\n`
    writeAs(file, text.replace(/^\d+/, String(stranger.pid)))
  }
  const again = await node.start(startWithinMs)
  assert.notEqual(again.pid, stranger.pid)
  assert.equal(stranger.exitCode, null, 'the stranger lives')
})

test('a server that hangs is killed in the end, and nothing of it is left', async t => {
  const node = freshNode(t)
  const { pid } = await node.start(startWithinMs)
  process.kill(pid, 'SIGSTOP')
  assert.equal(await node.stop({ mode: 'fast', withinMs: 100 }), 'killed')
  assert.deepEqual(processesOn(node.dataDirectory), [])
})

test('a half-made directory of a killed initdb is thrown away', async t => {
  const directory = testDirectory(t)
  const half = join(directory, 'node-a.initdb-4000000')
  mkdirSync(half)
  writeFileSync(join(half, 'PG_VERSION'), '18\n')
  const node = newNode(t, { directory })
  assert.equal(await node.initialise(), true)
  assert.equal(await node.initialise(), false)
  assert.deepEqual(
    readdirSync(directory).filter(name => name.startsWith('node-a')),
    ['node-a'],
  )
})

test('somebody else’s directory and another version are refused and left alone', async t => {
  const directory = testDirectory(t)
  const node = newNode(t, { directory })
  mkdirSync(join(directory, 'node-a'))
  writeFileSync(join(directory, 'node-a', 'thesis.txt'), 'years of work')
  await assert.rejects(node.initialise(), { code: 'POSTGRES_DIRECTORY_UNKNOWN' })
  writeFileSync(join(directory, 'node-a', 'PG_VERSION'), '9\n')
  await assert.rejects(node.initialise(), { code: 'POSTGRES_VERSION_MISMATCH' })
  assert.equal(readFileSync(join(directory, 'node-a', 'thesis.txt'), 'utf8'), 'years of work')
})

test('a taken port is passed over, and taken back once it is free', async t => {
  const other = createServer().listen(0, '127.0.0.1')
  cleanUp(t, () => other.close())
  await once(other, 'listening')
  const { port } = other.address() as { port: number }
  const node = freshNode(t, { port })
  const running = await node.start(startWithinMs)
  assert.notEqual(running.port, port)
  await node.stop({ mode: 'fast', withinMs: 20_000 })
  other.close()
  await once(other, 'close')
  assert.equal((await node.start(startWithinMs)).port, port)
})

test('a start that cannot work says PostgreSQL’s own reason', async t => {
  const node = freshNode(t, { settings: { shared_preload_libraries: 'no_such_library' } })
  await assert.rejects(node.start(startWithinMs), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'POSTGRES_START_FAILED')
    assert.match(error.message, /no_such_library/)
    return true
  })
})

test('a socket directory with spaces, commas and quotes works', async t => {
  const directory = join(testDirectory(t), `a b,"c"'d`)
  mkdirSync(directory)
  const { runAs } = testProgram()
  if (runAs) chownSync(directory, runAs.uid, runAs.gid)
  const node = freshNode(t, { directory })
  await node.start(startWithinMs)
  assert.equal(await whoAmI(node.connection(superuser)), 'postgres')
})

test('a page that was damaged on disk is reported, not served', async t => {
  const node = freshNode(t)
  await node.start(startWithinMs)
  const file = await withClient(node.connection(superuser), async client => {
    await client.query('CREATE TABLE page AS SELECT generate_series(1, 500) AS n')
    const { rows } = await client.query<{ path: string }>(`SELECT pg_relation_filepath('page') AS path`)
    return join(node.dataDirectory, rows[0]?.path as string)
  })
  await node.stop({ mode: 'fast', withinMs: 20_000 })
  const bytes = readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(4000) ^ 0xff, 4000)
  rmSync(file)
  writeAs(file, '')
  appendFileSync(file, bytes)
  await node.start(startWithinMs)
  await withClient(node.connection(superuser), async client => {
    await assert.rejects(client.query('SELECT sum(n) FROM page'), { code: 'XX001' })
  })
})

const roleRows = `SELECT rolname, xmin::text FROM pg_authid WHERE rolname LIKE 'moonyetis%' ORDER BY rolname`

async function show(client: pg.Client, setting: string): Promise<unknown> {
  return (await client.query(`SELECT current_setting($1) AS value`, [setting])).rows[0]?.value
}

async function whoAmI(config: pg.ClientConfig): Promise<string> {
  return withClient(config, async client => (await client.query('SELECT current_user AS me')).rows[0]?.me)
}

function exitOf(node: PostgresNode): Promise<ExitFacts> {
  return new Promise(resolve => node.watch(resolve))
}

function writeAs(file: string, text: string): void {
  writeFileSync(file, text, { mode: 0o600 })
  const { runAs } = testProgram()
  if (runAs) chownSync(file, runAs.uid, runAs.gid)
}
