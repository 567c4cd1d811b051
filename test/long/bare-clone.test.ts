import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { cleanEnvironment, Launch } from '#test/system/launch.ts'
import { openPlace, processesOf } from '#test/system/places.ts'
import { freePort, isRoot, nobody, programRoot } from '#test/system/program.ts'

const users = isRoot ? { root: undefined, 'an unprivileged user': nobody } : { 'this user': undefined }

for (const [who, user] of Object.entries(users)) {
  test(`a stranger (${who}) clones, types npm start and plays`, async t => {
    const place = openPlace(user ? { owner: user } : {})
    t.after(() => place.close())
    const clone = join(place.root, 'clone')
    await run(['git', 'clone', '--quiet', programRoot, clone])
    if (user) await run(['chown', '-R', `${user.uid}:${user.gid}`, clone])
    assert.equal(existsSync(join(clone, 'node_modules')), false)
    for (const time of ['cold', 'warm']) {
      const tookMs = await startAndStop(t, clone, user)
      if (tookMs === undefined) return
      t.diagnostic(`${time} npm start as ${who}: ready after ${(tookMs / 1000).toFixed(1)} s`)
    }
    assert.deepEqual(processesOf(place.root), [])
  })
}

async function run(command: [string, ...string[]]): Promise<void> {
  const launch = new Launch({ command })
  assert.deepEqual(await launch.exit(), { code: 0, signal: null }, launch.text)
}

/** How long it took to be ready; undefined when packages cannot be fetched here. */
async function startAndStop(
  t: TestContext,
  clone: string,
  user: { uid: number; gid: number } | undefined,
): Promise<number | undefined> {
  const port = await freePort()
  const launch = new Launch({
    command: ['npm', 'start'],
    cwd: clone,
    env: {
      ...environment(user ? join(clone, '..') : process.env.HOME),
      PORT: String(port),
      MOONYETIS_POSTGRES__PORT: String(await freePort()),
    },
    ...(user ? { user } : {}),
  })
  try {
    await launch.line(/^ready /, 10 * 60_000)
  } catch (error) {
    if (!/registry cannot be reached/.test(launch.text)) throw error
    t.skip('the npm registry cannot be reached; check the network with npm ping')
    return undefined
  }
  const tookMs = performance.now() - launch.startedAtMs
  const demo = await fetch(`http://127.0.0.1:${port}/api/auth/demo`, { method: 'POST' })
  const { token } = (await demo.json()) as { token: string }
  const spin = await fetch(`http://127.0.0.1:${port}/api/game/spin`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'idempotency-key': '"first"',
      connection: 'close',
    },
    body: '{"stakePerLine":"10","lines":10}',
  })
  assert.equal(spin.status, 200, await spin.text())
  launch.signalGroup('SIGINT')
  await launch.exit()
  assert.ok(launch.out.includes('stopped'), launch.text)
  return tookMs
}

function environment(home: string | undefined): NodeJS.ProcessEnv {
  return cleanEnvironment({
    HOME: home,
    npm_config_update_notifier: 'false',
    npm_config_prefer_offline: 'true',
  })
}
