import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, type TestContext, test } from 'node:test'
import pg from 'pg'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { readSystemIdentifier } from '#postgres/server/control-file.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { processesOn } from '#postgres/server/postmaster.ts'
import { SynchronousSet } from '#replication/synchronous-set.ts'
import { type ReplicationMode, TopologyFile } from '#replication/topology.ts'
import { cloneDirectory, newNode, withClient } from '#test/postgres-node.ts'
import { StandInArchive } from '#test/stand-in-archive.ts'
import { cleanUp, testDirectory, testProgram } from '#test/unprivileged.ts'
import { until } from '#test/until.ts'

const startWithinMs = 60_000
const superuser = { user: 'postgres', database: 'postgres' }
const timeoutMs = 800
// Where what is told meanwhile is looked at, on a machine that has other work too.
const longer = 2_500
const debian = '/usr/lib/postgresql/15/bin'

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

/** A place with one server, whose supervisor can die and come again. */
async function newPlace(
  t: TestContext,
  options: { mode: ReplicationMode; bin?: string; timeoutMs?: number },
) {
  const directory = testDirectory(t)
  const home = openHome(join(directory, 'home'))
  const binaries = options.bin
    ? { binaries: findBinaries({ bin: options.bin, programRoot: testProgram().programRoot }) }
    : {}
  if (!options.bin) cloneDirectory(template.dataDirectory, join(directory, 'node-a'))
  const makeNode = () => newNode(t, { directory, ...binaries })
  const open = (node: PostgresNode) => {
    const topology = new TopologyFile(home)
    const rules = { mode: options.mode, wanted: ['archive'], timeoutMs: options.timeoutMs ?? timeoutMs }
    const set = new SynchronousSet({ node, topology, rules, log: silentLog, clock: systemClock })
    cleanUp(t, () => set.stop())
    return { set, topology }
  }
  const supervisor = async () => {
    const node = makeNode()
    await node.initialise()
    const { set, topology } = open(node)
    await set.prepare()
    await node.start(startWithinMs)
    const systemIdentifier = readSystemIdentifier(node.dataDirectory) as string
    set.identify({ systemIdentifier, timeline: 1 })
    set.start()
    return { node, set, topology }
  }
  return { supervisor, directory }
}

/** A commit that may wait; `done` tells whether it was acknowledged. */
async function commit(t: TestContext, node: PostgresNode) {
  const client = new pg.Client(node.connection(superuser))
  client.on('error', () => {})
  await client.connect()
  let done = false
  const ended = client
    .query('CREATE TABLE IF NOT EXISTS t (); SELECT pg_logical_emit_message(true, $$t$$, $$m$$)')
    .then(
      () => {
        done = true
      },
      () => {},
    )
  cleanUp(t, () => void client.end().catch(() => {}))
  return { ended, isDone: () => done, close: () => client.end() }
}

const names = async (node: PostgresNode) =>
  withClient(
    node.connection(superuser),
    async client => (await client.query('SHOW synchronous_standby_names')).rows[0].synchronous_standby_names,
  )

const isIn = (topology: TopologyFile) => topology.value?.members.some(one => one.name === 'archive') ?? false

async function archiveOf(t: TestContext, node: PostgresNode): Promise<StandInArchive> {
  const archive = await StandInArchive.connect(node.connection(superuser))
  cleanUp(t, () => archive.close())
  return archive
}

// They mostly wait.
describe('a synchronous archive', { concurrency: 3 }, () => {
  test('the archive enters, a hang holds commits for the timeout only, and it enters again; all of it is on record', async t => {
    const { supervisor } = await newPlace(t, { mode: 'max-availability', timeoutMs: longer })
    const { node, set, topology } = await supervisor()
    await (await commit(t, node)).ended
    assert.equal(await names(node), '')
    assert.equal(set.status().outside.windows, 1, 'nothing is synchronous yet, and that counts')

    const archive = await archiveOf(t, node)
    await until(() => isIn(topology))
    assert.equal(await names(node), 'FIRST 1 (archive)')
    assert.deepEqual(topology.value?.syncSet, [], 'an archive cannot be promoted')
    await (await commit(t, node)).ended
    assert.equal(set.status().reason, 'every commit waits until the archive has it on disk')
    const [proofs] = await withClient(
      node.connection(superuser),
      async client =>
        (
          await client.query(
            `SELECT count(*)::int AS left FROM pg_stat_activity WHERE application_name LIKE '%proof'`,
          )
        ).rows,
    )
    assert.equal(proofs.left, 0)

    archive.hang()
    const hungMs = performance.now()
    const held = await commit(t, node)
    await until(() => set.status().blockedSince !== undefined)
    assert.match(
      set.status().reason,
      /^commits wait for the archive since \d{4}-.*Z: it has not confirmed 0\//,
    )
    assert.equal(held.isDone(), false)
    await held.ended
    const heldMs = performance.now() - hungMs
    assert.ok(held.isDone() && heldMs >= longer, `held for ${heldMs} ms`)
    assert.equal(isIn(topology), false, 'the record came before the acknowledgement')
    const { since, windows } = set.status().outside
    assert.ok(since)
    assert.equal(windows, 2)

    archive.goOn()
    await until(() => isIn(topology))
    const { outside } = topology.value as NonNullable<typeof topology.value>
    assert.deepEqual(outside.open, [])
    assert.match(outside.recent.at(-1)?.cause ?? '', /^commits had waited [\d.]+ s for it$/)
    assert.ok((outside.recent.at(-1)?.seconds ?? 0) > 0)
  })

  test('max-protection holds commits from the first moment, and a stop with commits held does not hang', async t => {
    const { supervisor } = await newPlace(t, { mode: 'max-protection' })
    const { node, set, topology } = await supervisor()
    assert.equal(await names(node), 'FIRST 1 (archive)')
    const held = await commit(t, node)
    await until(() => set.status().blockedSince !== undefined)
    assert.match(set.status().reason, /^commits wait for the archive since .*: it is not connected$/)

    const archive = await archiveOf(t, node)
    await held.ended
    assert.ok(held.isDone())
    await until(() => isIn(topology))

    archive.hang()
    const again = await commit(t, node)
    await until(() => set.status().blockedSince !== undefined)
    await new Promise(resolve => setTimeout(resolve, 2 * timeoutMs))
    assert.deepEqual([again.isDone(), isIn(topology)], [false, true], 'it never leaves')

    const stopMs = performance.now()
    await set.stop()
    assert.equal(await node.stop({ mode: 'fast', withinMs: 30_000 }), 'stopped')
    assert.ok(performance.now() - stopMs < 20_000, `the stop took ${performance.now() - stopMs} ms`)
    await again.ended
    assert.equal(again.isDone(), false)
    assert.deepEqual(processesOn(node.dataDirectory), [])
  })

  test('after kill -9 of PostgreSQL and of its supervisor the set is in force from the first moment', async t => {
    const { supervisor } = await newPlace(t, { mode: 'max-availability' })
    const first = await supervisor()
    const archive = await archiveOf(t, first.node)
    await until(() => isIn(first.topology))

    // The supervisor goes, the server lives, and so does what it must wait for.
    await first.set.stop()
    const second = await supervisor()
    assert.equal(second.node.running?.pid, first.node.running?.pid)
    assert.ok(isIn(second.topology))
    await until(() => second.set.status().reason.startsWith('every commit waits'))
    assert.equal(second.set.status().outside.windows, 1)

    // The server goes, and the archive with it: whoever commits first must find it missing.
    await second.set.stop()
    process.kill(second.node.running?.pid as number, 'SIGKILL')
    archive.close()
    await until(() => second.node.running === undefined)
    const third = await supervisor()
    assert.ok(isIn(third.topology))
    const held = await commit(t, third.node)
    await held.ended
    assert.ok(held.isDone())
    assert.equal(isIn(third.topology), false, 'acknowledged without the archive only once that was on record')
  })

  test('somebody’s ALTER SYSTEM is answered by a true record and by words, and a copy of the data does not keep the set', async t => {
    const { supervisor, directory } = await newPlace(t, { mode: 'max-availability' })
    const { node, set, topology } = await supervisor()
    await archiveOf(t, node)
    await until(() => isIn(topology))
    const say = (text: string) => withClient(node.connection(superuser), client => client.query(text))
    await say(`ALTER SYSTEM SET synchronous_standby_names = ''`)
    await say('SELECT pg_reload_conf()')
    await until(() => !isIn(topology))
    await until(() => set.status().reason.includes('postgresql.auto.conf'))
    await say('ALTER SYSTEM RESET synchronous_standby_names')
    await until(() => isIn(topology))

    await set.stop()
    await node.stop({ mode: 'immediate', withinMs: 5_000 })
    const at = (name: string) => readFileSync(join(directory, 'node-a', name), 'utf8')
    assert.match(at('moonyetis.conf'), /^synchronous_standby_names = 'FIRST 1 \(archive\)'$/m)
    assert.doesNotMatch(at('postgresql.auto.conf'), /^synchronous/m)
    // Without the topology of the home every start of ours writes that file anew.
    const copy = newNode(t, { directory })
    await copy.start(startWithinMs)
    assert.equal(await names(copy), '')
  })

  test('Debian’s PostgreSQL 15 with pg_receivewal as the archive: enters, hangs, leaves, enters', {
    skip: skipWithout(join(debian, 'pg_receivewal')),
  }, async t => {
    const { supervisor, directory } = await newPlace(t, { mode: 'max-availability', bin: debian })
    const { node, set, topology } = await supervisor()
    const receiver = receive(t, node, join(directory, 'wal'))
    await until(() => isIn(topology))
    await (await commit(t, node)).ended
    receiver.kill('SIGSTOP')
    const held = await commit(t, node)
    await held.ended
    assert.equal(isIn(topology), false)
    await until(() => /^not every commit is known to be with the archive: /.test(set.status().reason))
    receiver.kill('SIGCONT')
    await until(() => isIn(topology))
    receiver.kill('SIGKILL')
    await once(receiver, 'exit')
    await until(() => !isIn(topology))
    assert.match(topology.value?.outside.open[0]?.cause ?? '', /^it was not connected for /)
  })
})

function receive(t: TestContext, node: PostgresNode, to: string): ChildProcess {
  const { runAs } = testProgram()
  mkdirSync(to)
  if (runAs) chownSync(to, runAs.uid, runAs.gid)
  const { host, port } = node.connection(superuser)
  const where = `host=${host} port=${port} user=postgres application_name=archive`
  const args = ['--synchronous', '--no-loop', '-D', to, '-d', where]
  const child = spawn(join(debian, 'pg_receivewal'), args, { ...runAs, cwd: '/', stdio: 'ignore' })
  cleanUp(t, () => child.kill('SIGKILL'))
  return child
}

/** As the suite does everywhere: absent programs are skipped with the mend, unless nothing may be skipped. */
function skipWithout(program: string): string | false {
  if (existsSync(program) || process.env.MOONYETIS_REQUIRE_ALL === '1') return false
  return `${program} is not there: apt-get install postgresql-15`
}
