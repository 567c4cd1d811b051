import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Failure } from './errors.ts'
import { ensureSecret, openHome, readSecret, writeDurably } from './home.ts'

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'home-'))
  removeAfter(t, directory)
  return directory
}

function removeAfter(t: TestContext, path: string): void {
  t.after(() => rmSync(path, { recursive: true, force: true }))
}

const modeOf = (path: string) => statSync(path).mode & 0o777
const deepName = 'a-directory-with-a-rather-long-name'

function deepHome(t: TestContext) {
  const home = openHome(join(temporaryDirectory(t), deepName, deepName, deepName))
  removeAfter(t, dirname(home.socket('serve')))
  return home
}

test('a home has its directories with their modes, also when opened twice', t => {
  const root = join(temporaryDirectory(t), 'with space', 'home')
  openHome(root)
  const home = openHome(root)
  for (const path of [home.secrets, home.secure, home.ssl, home.run, home.state, home.backups]) {
    assert.equal(modeOf(path), 0o700, path)
  }
  assert.equal(home.configFile, join(root, 'config.json'))
})

test('a secret directory that became open is closed again, a stricter mode stays', t => {
  const home = openHome(temporaryDirectory(t))
  chmodSync(home.secrets, 0o755)
  chmodSync(home.logs, 0o700)
  openHome(home.root)
  assert.equal(modeOf(home.secrets), 0o700)
  assert.equal(modeOf(home.logs), 0o700)
})

test('a short socket path lies in run', t => {
  const home = openHome(temporaryDirectory(t))
  assert.equal(home.socket('serve'), join(home.run, 'serve.sock'))
})

test('the last path of 90 bytes stays in run, one more byte moves it to a private temp directory', t => {
  const base = temporaryDirectory(t)
  const fill = 90 - Buffer.byteLength(join(base, 'x', 'run', 'serve.sock')) + 1
  const fitting = openHome(join(base, 'x'.repeat(fill)))
  assert.equal(Buffer.byteLength(fitting.socket('serve')), 90)
  assert.equal(fitting.socket('serve'), join(fitting.run, 'serve.sock'))
  const long = openHome(join(base, 'x'.repeat(fill + 1)))
  removeAfter(t, dirname(long.socket('serve')))
  assert.notEqual(dirname(long.socket('serve')), long.run)
  assert.equal(modeOf(dirname(long.socket('serve'))), 0o700)
})

test('length counts in bytes, not characters', t => {
  const home = openHome(join(temporaryDirectory(t), 'ñ'.repeat(30)))
  const path = home.socket('serve')
  removeAfter(t, dirname(path))
  assert.ok(Buffer.byteLength(path) <= 90)
  assert.notEqual(dirname(path), home.run)
})

test('a moved socket directory is the same for every process, whatever its TMPDIR', t => {
  const home = deepHome(t)
  const path = home.socket('serve')
  assert.ok(Buffer.byteLength(path) <= 90)
  const before = process.env.TMPDIR
  process.env.TMPDIR = temporaryDirectory(t)
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
  })
  assert.equal(openHome(home.root).socket('serve'), path)
})

test('a moved socket directory that is open, a link or a file is refused', t => {
  const home = deepHome(t)
  const directory = dirname(home.socket('serve'))
  const refused = (error: unknown) => (error as Failure).code === 'SOCKET_DIRECTORY_UNSAFE'
  chmodSync(directory, 0o755)
  assert.throws(() => home.socket('serve'), refused)
  rmSync(directory, { recursive: true })
  symlinkSync(temporaryDirectory(t), directory)
  assert.throws(() => home.socket('serve'), refused)
  rmSync(directory)
  mkdirSync(directory, { mode: 0o700 })
  assert.equal(dirname(home.socket('serve')), directory)
})

test('a moved socket directory of another user is refused', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, t => {
  const home = deepHome(t)
  chownSync(dirname(home.socket('serve')), 12345, 12345)
  assert.throws(
    () => home.socket('serve'),
    (error: unknown) => error instanceof Failure,
  )
})

test('a secret is made once, kept 0600 and read back without its line break', t => {
  const home = openHome(temporaryDirectory(t))
  assert.equal(readSecret(home, 'session_key'), undefined)
  assert.equal(
    ensureSecret(home, 'session_key', () => 'first'),
    'first',
  )
  assert.equal(
    ensureSecret(home, 'session_key', () => 'second'),
    'first',
  )
  assert.equal(readSecret(home, 'session_key'), 'first')
  assert.equal(modeOf(join(home.secrets, 'session_key')), 0o600)
  assert.deepEqual(readdirSync(home.secrets), ['session_key'])
})

test('a secret may lie in a directory of its own, and one written by hand is taken as it is', t => {
  const home = openHome(temporaryDirectory(t))
  assert.equal(
    ensureSecret(home, 'seed_keys/k1', () => 'key'),
    'key',
  )
  assert.equal(modeOf(join(home.secrets, 'seed_keys')), 0o700)
  writeFileSync(join(home.secrets, 'by_hand'), 'typed\r\n')
  assert.equal(readSecret(home, 'by_hand'), 'typed')
})

test('of two makers at once both get what the first one wrote', t => {
  const home = openHome(temporaryDirectory(t))
  const inner: string[] = []
  const outer = ensureSecret(home, 'key', () => {
    inner.push(ensureSecret(home, 'key', () => 'theirs'))
    return 'ours'
  })
  assert.deepEqual([outer, ...inner], ['theirs', 'theirs'])
})

test('a durable write replaces the whole file, sets its mode and leaves nothing beside it', t => {
  const directory = temporaryDirectory(t)
  const path = join(directory, 'topology.json')
  writeDurably(path, 'a longer text than the next one')
  writeDurably(path, 'short', 0o640)
  assert.equal(readFileSync(path, 'utf8'), 'short')
  assert.equal(modeOf(path), 0o640)
  assert.deepEqual(readdirSync(directory), ['topology.json'])
})

test('a durable write that fails leaves the old file and no temporary one', t => {
  const directory = temporaryDirectory(t)
  const path = join(directory, 'taken')
  mkdirSync(path)
  assert.throws(() => writeDurably(path, 'x'))
  assert.throws(() => writeDurably(join(directory, 'no', 'such'), 'x'))
  assert.deepEqual(readdirSync(directory), ['taken'])
})

test("what root makes in another user's home belongs to that user", {
  skip: process.getuid?.() !== 0 && 'needs root',
}, t => {
  const root = temporaryDirectory(t)
  chownSync(root, 65534, 65534)
  const home = openHome(root)
  ensureSecret(home, 'key', () => 'x')
  for (const path of [home.run, home.secrets, join(home.secrets, 'key')])
    assert.equal(statSync(path).uid, 65534, path)
  assert.ok(existsSync(home.postgres))
})
