import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { findAccount } from './unprivileged/account.ts'
import { copyProgram, installedPackages } from './unprivileged/program-copy.ts'
import { environmentFor, withoutHome } from './unprivileged.ts'

test('the home goes by the environment, whatever way it was written', () => {
  assert.deepEqual(withoutHome(['up', '--home', '/a', '--json']), ['up', '--json'])
  assert.deepEqual(withoutHome(['--home=/a', 'up']), ['up'])
  assert.deepEqual(withoutHome(['run', '--', '--home', '/a']), ['run', '--', '--home', '/a'])
})

test('the environment loses what was root’s and keeps what was asked for', () => {
  const account = { name: 'nobody', uid: 65534, gid: 65534 }
  const env = {
    PORT: '8080',
    HOME: '/root',
    SUDO_USER: 'me',
    XDG_RUNTIME_DIR: '/run/user/0',
    npm_config_cache: '/root/.npm',
  }
  assert.deepEqual(environmentFor(env, account, '/srv/home', process.execPath), {
    PORT: '8080',
    HOME: '/srv/home',
    MOONYETIS_HOME: '/srv/home',
    USER: 'nobody',
    LOGNAME: 'nobody',
  })
})

test('an account is found by name or number, broken lines are passed over', () => {
  const passwd = 'root:x:0:0::/root:/bin/sh\nbroken\n\nmoonyetis:x:991:990::/:/usr/sbin/nologin\n'
  const found = { name: 'moonyetis', uid: 991, gid: 990 }
  assert.deepEqual(findAccount(passwd, { name: 'moonyetis' }), found)
  assert.deepEqual(findAccount(passwd, { uid: 991 }), found)
  assert.equal(findAccount(passwd, { name: 'nobody' }), undefined)
})

/** A clone in miniature, shut to others as a umask of 077 leaves it. */
function newClone(t: TestContext): { clone: string; base: string } {
  const top = mkdtempSync(join(tmpdir(), 'my-'))
  t.after(() => rmSync(top, { recursive: true, force: true }))
  const clone = join(top, 'clone')
  const lock = {
    packages: {
      '': {},
      'node_modules/pg': {},
      'node_modules/pg/node_modules/inner': {},
      'node_modules/knip': { dev: true },
    },
  }
  const files = {
    'package.json': '{}',
    'src/main.ts': '// main',
    'src/main.test.ts': '// test',
    'migrations/0001_a.sql': 'SELECT 1',
    'test/a.test.ts': '// test',
    'node_modules/.package-lock.json': JSON.stringify(lock),
    'node_modules/pg/index.js': '// pg',
    'node_modules/pg/bin/tool': '#!/bin/sh',
    'node_modules/pg/node_modules/inner/index.js': '// inner',
    'node_modules/knip/index.js': '// knip',
  }
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(clone, name)), { recursive: true, mode: 0o700 })
    writeFileSync(join(clone, name), text, { mode: 0o600 })
  }
  chmodSync(join(clone, 'node_modules/pg/bin/tool'), 0o700)
  symlinkSync('index.js', join(clone, 'node_modules/pg/link.js'))
  return { clone, base: join(top, 'copies') }
}

test('a copy holds what the program needs, readable for everybody, and nothing of the development', t => {
  const { clone, base } = newClone(t)
  assert.deepEqual(installedPackages(clone), ['node_modules/pg', 'node_modules/pg/node_modules/inner'])
  const { programRoot, copied } = copyProgram({ clone, base })
  assert.equal(copied, true)
  const mode = (name: string) => statSync(join(programRoot, name)).mode & 0o777
  assert.equal(mode('src'), 0o755)
  assert.equal(mode('src/main.ts'), 0o644)
  assert.equal(mode('migrations/0001_a.sql'), 0o644)
  assert.equal(mode('node_modules/pg/bin/tool'), 0o755)
  assert.equal(mode('node_modules/pg/link.js'), 0o644)
  assert.equal(mode('node_modules/pg/node_modules/inner/index.js'), 0o644)
  for (const name of ['src/main.test.ts', 'test', 'node_modules/knip'])
    assert.ok(!existsSync(join(programRoot, name)), name)
})

test('the same program is copied once; a change makes a new copy and keeps the packages', t => {
  const { clone, base } = newClone(t)
  const first = copyProgram({ clone, base })
  assert.deepEqual(copyProgram({ clone, base }), { ...first, copied: false })
  writeFileSync(join(clone, 'src/main.ts'), '// another main')
  const second = copyProgram({ clone, base })
  assert.notEqual(second.programRoot, first.programRoot)
  assert.equal(readdirSync(base).filter(name => name.startsWith('modules-')).length, 1)
  assert.equal(
    readdirSync(base).filter(name => name.startsWith('app-')).length,
    2,
    'just used: another start may be on its way to it',
  )
})

test('copies that nobody has used for long are removed', t => {
  const { clone, base } = newClone(t)
  const first = copyProgram({ clone, base })
  const longAgo = new Date(Date.now() - 3_600_000)
  utimesSync(first.programRoot, longAgo, longAgo)
  writeFileSync(join(clone, 'src/main.ts'), '// another main')
  const second = copyProgram({ clone, base })
  assert.deepEqual(
    readdirSync(base)
      .filter(name => name.startsWith('app-'))
      .map(name => join(base, name)),
    [second.programRoot],
  )
})
