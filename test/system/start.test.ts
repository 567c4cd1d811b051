import assert from 'node:assert/strict'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Client } from '#test/system/client.ts'
import { cloneProgram } from '#test/system/clone.ts'
import { History } from '#test/system/history.ts'
import { cleanEnvironment, Launch } from '#test/system/launch.ts'
import { guardPlace, openPlace, type Place, processesOf } from '#test/system/places.ts'
import { Player } from '#test/system/player.ts'
import {
  freePort,
  isRoot,
  nobody,
  type Part,
  type Program,
  prepareMoonYetis,
  startMoonYetis,
  until,
} from '#test/system/program.ts'

const parts: Part[] = ['up', 'supervise', 'archive', 'serve', 'postgres']
const bet = { stakePerLine: '1', lines: 1 }

function openClient(t: TestContext, program: Program): Client {
  const client = new Client({ url: () => program.url })
  t.after(() => client.close())
  return client
}

function signIn(client: Client): Promise<Player> {
  return Player.signIn({ name: 'visitor', client, history: new History() })
}

/** Ends with an error of one line, and a hint of one line. */
function assertOneClearLine(launch: Launch, wanted: RegExp): void {
  assert.equal(launch.out.length, 0, launch.text)
  // A clone that only root may enter is told of at every start.
  const [error, hint, ...more] = launch.err.filter(line => !line.includes('cannot reach this place'))
  assert.match(String(error), /^error: /, launch.text)
  assert.match(String(error), wanted)
  assert.match(String(hint), /^hint: /, launch.text)
  assert.deepEqual(more, [])
}

function assertNothingRuns(program: Program): void {
  assert.deepEqual(processesOf(program.home), [])
  const left = readdirSync(join(program.home, 'run')).filter(name => /\.(pid\.json|sock)$/.test(name))
  assert.deepEqual(left, [])
}

test('one line says that it is ready, and a second start on the same home is refused', async t => {
  const program = await prepareMoonYetis(t)
  const first = program.launch(['up'])
  const ready = await first.line(/^ready /)
  assert.equal(ready, `ready ${program.url}`)
  assert.equal(first.out.filter(line => line.startsWith('ready')).length, 1)
  assert.deepEqual(Object.keys(program.pids()), parts)
  const before = program.pids()

  const second = program.launch(['up'], { env: { ...program.environment(), PORT: String(await freePort()) } })
  assert.deepEqual(await second.exit(), { code: 3, signal: null })
  assertOneClearLine(second, /already running on .* \(process \d+\)/)
  assert.match(String(second.err[0]), new RegExp(`\\(process ${before.up}\\)`))
  assert.deepEqual(program.pids(), before)
  const player = await signIn(openClient(t, program))
  assert.equal((await player.spin('still-here', bet)).kind, 'ok')
})

test('Ctrl-C answers a spin in flight, refuses new ones and leaves no process', async t => {
  const program = await startMoonYetis(t)
  const client = openClient(t, program)
  const player = await signIn(client)
  await player.spin('warm', bet)
  // The server processes of the database stand still, so the spin is in flight for as long as we like.
  const standStill = program.backends()
  assert.ok(standStill.length > 0)
  for (const pid of standStill) process.kill(pid, 'SIGSTOP')
  let answered = false
  const inFlight = player.spin('in-flight', bet).finally(() => {
    answered = true
  })
  // Another request on its own connection comes back, so the spin before it has arrived too.
  await client.send({ method: 'GET', path: '/livez' })
  const stopping = program.stop()
  await until('new connections are refused', () => isRefused(program.port), 20_000)
  assert.equal(answered, false)
  for (const pid of standStill) process.kill(pid, 'SIGCONT')
  assert.equal((await inFlight).kind, 'ok')
  assert.deepEqual(await stopping, { code: 0, signal: null })
  assert.equal(program.up.out.at(-1), '{"event":"stopped"}')
  assertNothingRuns(program)

  await program.start()
  t.diagnostic(`a second start took ${(program.readyMs / 1000).toFixed(1)} s`)
  const again = await player.spin('in-flight', bet)
  assert.deepEqual(again, { ...(await inFlight), replayed: true })
})

async function isRefused(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/livez`, { headers: { connection: 'close' } })
    return false
  } catch {
    return true
  }
}

test('a start recovers from kill -9 of everything, and down stops what a killed up left', async t => {
  const program = await startMoonYetis(t)
  const player = await signIn(openClient(t, program))
  const first = await player.spin('first', bet)
  for (const part of parts) assert.ok(program.kill(part), part)
  await program.up.exit()
  await program.start()
  t.diagnostic(`the start after kill -9 took ${(program.readyMs / 1000).toFixed(1)} s`)
  assert.deepEqual(await player.spin('first', bet), { ...first, replayed: true })

  program.kill('up')
  await program.up.exit()
  assert.deepEqual(Object.keys(program.pids()), ['supervise', 'archive', 'serve', 'postgres'])
  assert.equal((await player.spin('orphaned', bet)).kind, 'ok')
  const down = program.launch(['down', '--json'])
  assert.deepEqual(await down.exit(), { code: 0, signal: null })
  const { stopped } = JSON.parse(down.text) as { stopped: string[] }
  assert.deepEqual(stopped.toSorted(), ['archive', 'serve', 'supervise'])
  assert.deepEqual(processesOf(program.home), [])
  const nothing = program.launch(['down'])
  await nothing.exit()
  assert.equal(nothing.text, 'nothing was running')
})

test('a taken port is told in one clear line, and nothing is left running', async t => {
  const program = await prepareMoonYetis(t)
  const server = createServer().listen(program.port, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const up = program.launch(['up'])
  assert.deepEqual(await up.exit(), { code: 1, signal: null })
  assertOneClearLine(up, new RegExp(`\\b${program.port}\\b`))
  assert.match(up.text, /PORT/)
  assertNothingRuns(program)
})

test('a home with a path too long for a socket works', async t => {
  const place = openPlace()
  t.after(() => place.close())
  const program = await startMoonYetis(t, { home: join(place.root, 'd'.repeat(60), 'h'.repeat(60)) })
  const player = await signIn(openClient(t, program))
  assert.equal((await player.spin('far-away', bet)).kind, 'ok')
  const elsewhere = readFileSync(join(program.home, 'run', 'socket-directory'), 'utf8').trim()
  assert.equal(statSync(elsewhere).mode & 0o777, 0o700)
  const status = program.launch(['status', '--json'])
  assert.deepEqual(await status.exit(), { code: 0, signal: null })
  assert.deepEqual(await program.stop(), { code: 0, signal: null })
  assertNothingRuns(program)
})

/** `npm start` in a clone, as a stranger types it; ends it with Ctrl-C when `work` is done. */
async function npmStart(
  clone: string,
  o: { user?: { uid: number; gid: number }; work: (started: Launch) => Promise<void> },
): Promise<Launch> {
  const launch = new Launch({
    command: ['npm', 'start'],
    cwd: clone,
    env: cleanEnvironment({
      PORT: String(await freePort()),
      MOONYETIS_POSTGRES__PORT: String(await freePort()),
      MOONYETIS_POSTGRES__SHARED_BUFFERS_MEGABYTES: '64',
      // npm keeps its own files there.
      HOME: o.user ? dirname(clone) : process.env.HOME,
      npm_config_update_notifier: 'false',
    }),
    ...(o.user ? { user: o.user } : {}),
  })
  const [, url] = (await launch.line(/^ready /)).split(' ')
  const livez = await fetch(`${url}/livez`, { headers: { connection: 'close' } })
  assert.equal(livez.status, 200)
  await o.work(launch)
  launch.signalGroup('SIGINT')
  await launch.exit()
  assert.ok(launch.out.includes('stopped'), launch.text)
  return launch
}

test('npm start works wherever the clone lies', { timeout: 120_000 }, async t => {
  const place = openPlace()
  t.after(() => place.close())
  const clone = join(place.root, "a clone, 100% ours, it's")
  cloneProgram(clone)
  await t.test('on a path with spaces and signs', async () => {
    await npmStart(clone, {
      work: async () => assert.ok(existsSync(join(clone, '.moonyetis', 'run', 'up.sock'))),
    })
    assert.deepEqual(processesOf(place.root), [])
  })
  const needsRoot = isRoot ? false : 'needs root, to become another user'
  await t.test('in a directory that only root may enter', { skip: needsRoot }, t => startsHidden(t, clone))
  await t.test('for an unprivileged user who owns the clone', { skip: needsRoot }, async () => {
    await startsUnprivileged(place, clone)
  })
})

async function startsHidden(t: TestContext, clone: string): Promise<void> {
  const hidden = join(dirname(clone), 'hidden')
  mkdirSync(hidden, { mode: 0o700 })
  const inside = join(hidden, 'clone')
  renameSync(clone, inside)
  t.after(() => renameSync(inside, clone))
  rmSync(join(inside, '.moonyetis'), { recursive: true })
  const moved = /the program runs from (\S+), the data is in (\S+)$/
  let program = ''
  let copyMs = 0
  for (const time of ['first', 'second']) {
    const startedAtMs = performance.now()
    const launch = await npmStart(inside, {
      work: async launch => {
        const line = launch.err.find(one => moved.test(one))
        assert.ok(line, launch.text)
        const [, programRoot = '', home = ''] = moved.exec(line) ?? []
        const machine = dirname(home)
        assert.match(machine, /^\/var\/lib\/moonyetis\/[0-9a-f]{10}$/)
        if (time === 'first') {
          const theirs = guardPlace(machine)
          t.after(() => theirs.close())
          program = programRoot
        } else assert.equal(programRoot, program)
        assert.equal(statSync(home).uid === 0, false)
        assert.equal(statSync(programRoot).uid, 0)
      },
    })
    const tookMs = performance.now() - startedAtMs
    t.diagnostic(`${time} start and stop: ${(tookMs / 1000).toFixed(1)} s`)
    assert.equal(launch.err.filter(line => moved.test(line)).length, 1)
    if (time === 'first') copyMs = tookMs
    else assert.ok(tookMs < copyMs, 'the second start copies nothing')
  }
  assert.equal(existsSync(join(inside, '.moonyetis')), false)
}

async function startsUnprivileged(place: Place, clone: string): Promise<void> {
  const chown = new Launch({ command: ['chown', '-R', `${nobody.uid}:${nobody.gid}`, place.root] })
  assert.equal((await chown.exit()).code, 0)
  chmodSync(place.root, 0o700)
  await npmStart(clone, {
    user: nobody,
    work: async () => {
      const running = processesOf(place.root)
      assert.ok(running.length >= parts.length)
      for (const { pid, command } of running) assert.equal(statSync(`/proc/${pid}`).uid, nobody.uid, command)
    },
  })
  assert.deepEqual(processesOf(place.root), [])
}
