import assert from 'node:assert/strict'
import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  globSync,
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
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { Failure } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { openStorage } from '#storage/open.ts'
import { hasCode, keysOf } from '#test/storage/contract.ts'

const isRoot = process.getuid?.() === 0

function newDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'my-disk-'))
  t.after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

const open = (root: string) => openStorage({ url: pathToFileURL(root).href, log: silentLog })
const modeOf = (path: string) => statSync(path).mode & 0o777

/** What a killed writer leaves, and how old it is. */
function leftover(root: string, name: string, ageMs: number): string {
  const path = join(root, '.incoming', name)
  mkdirSync(join(root, '.incoming'), { recursive: true })
  writeFileSync(path, 'half an obj')
  const at = (Date.now() - ageMs) / 1000
  utimesSync(path, at, at)
  return path
}

describe('a directory as storage', () => {
  test('what it makes is for its owner only, whatever the umask', async t => {
    const root = join(newDirectory(t), 'made')
    const before = process.umask(0)
    t.after(() => process.umask(before))
    const storage = await open(root)
    await storage.put('a/b/c', [Buffer.from('x')])
    await storage.putNew('a/d', [Buffer.from('x')])
    for (const path of [root, join(root, 'a'), join(root, 'a/b'), join(root, '.incoming')])
      assert.equal(modeOf(path), 0o700, path)
    for (const path of ['a/b/c', 'a/d']) assert.equal(modeOf(join(root, path)), 0o600, path)
  })

  test('root leaves what it makes to the user whose directory it is', {
    skip: !isRoot && 'run it as root',
  }, async t => {
    const root = newDirectory(t)
    chownSync(root, 65_534, 65_534)
    const storage = await open(root)
    await storage.put('a/b', [Buffer.from('x')])
    await storage.putNew('a/c', [Buffer.from('x')])
    for (const path of ['a', 'a/b', 'a/c', '.incoming'])
      assert.equal(statSync(join(root, path)).uid, 65_534, path)
  })

  test('what killed writers left is never listed, stays while it is new and goes when it is old', async t => {
    const root = newDirectory(t)
    const young = leftover(root, '1-young', 60_000)
    const old = leftover(root, '1-old', 2 * 3_600_000)
    const storage = await open(root)
    assert.deepEqual(await keysOf(storage, ''), [])
    assert.deepEqual([existsSync(young), existsSync(old)], [true, false])
  })

  test('a writer that is killed in the middle leaves the old object or the new one', async t => {
    const root = newDirectory(t)
    const storage = await open(root)
    const sizes = new Set<number>()
    for (let round = 0; round < 8; round++) {
      const writer = fork(new URL('../helpers/storage/writer.ts', import.meta.url), [
        pathToFileURL(root).href,
      ])
      await once(writer, 'message')
      // Not a wait for something: the moment of death is meant to be anywhere in its writing.
      await new Promise(resolve => setTimeout(resolve, 5 + round * 11))
      writer.kill('SIGKILL')
      await once(writer, 'exit')
      for await (const { key, bytes } of storage.list('')) {
        const object = await storage.get(key)
        assert.equal(object.length, bytes)
        assert(
          object.every(byte => byte === object[0]),
          `${key} is of two writings`,
        )
        sizes.add(bytes)
      }
    }
    assert.deepEqual([...sizes], [3_000_000])
  })

  test('directories that have become empty go, and writers of them are not disturbed', async t => {
    const root = newDirectory(t)
    const storage = await open(root)
    const work = async (name: string) => {
      for (let round = 0; round < 100; round++) {
        await storage.put(`shared/deep/${name}`, [Buffer.from(name)])
        assert.equal((await storage.get(`shared/deep/${name}`)).toString(), name)
        await storage.delete([`shared/deep/${name}`])
      }
    }
    await Promise.all(['a', 'b', 'c'].map(work))
    assert.deepEqual(readdirSync(root), ['.incoming'])
    assert.deepEqual(readdirSync(join(root, '.incoming')), [])
  })

  test('files that are no objects are neither listed nor in the way', async t => {
    const root = newDirectory(t)
    const storage = await open(root)
    await storage.put('a/object', [Buffer.from('x')])
    writeFileSync(join(root, 'a/.hidden'), 'x')
    writeFileSync(join(root, 'a/with space'), 'x')
    mkdirSync(join(root, 'lost+found'))
    symlinkSync('/etc/hostname', join(root, 'a/link'))
    assert.deepEqual(await keysOf(storage, ''), ['a/object'])
  })

  test('a path with spaces, percent signs and hashes is that path', async t => {
    const root = join(newDirectory(t), 'a b%20#c?')
    const storage = await open(root)
    await storage.put('x', [Buffer.from('x')])
    assert(existsSync(join(root, 'x')))
  })

  test('more parts than the kernel takes at once, in odd sizes, are all written', async t => {
    const storage = await open(newDirectory(t))
    const parts = Array.from({ length: 5_000 }, (_, index) => Buffer.alloc(index % 700, index))
    await storage.put('parts', parts)
    assert.deepEqual(await storage.get('parts'), Buffer.concat(parts))
  })
})

describe('what a disk refuses is said in words', () => {
  const refuses = async (work: Promise<unknown>, code: string, says: RegExp) =>
    assert.rejects(work, error => {
      assert(error instanceof Failure, String(error))
      assert.equal(error.code, code, String(error))
      assert.match(`${error.message} ${error.hint}`, says)
      assert.match(error.message, /^file:\/\/\//)
      return true
    })

  test('a disk that is full takes nothing half, and works again once there is room', {
    skip: tmpfsSkip(),
  }, async t => {
    const root = mountSmall(t)
    const storage = await open(root)
    const mebibyte = Buffer.alloc(1024 * 1024, 1)
    await storage.put('first', [mebibyte])
    for (const put of ['put', 'putNew'] as const)
      await refuses(
        storage[put]('second', Array(8).fill(mebibyte)),
        'STORAGE_FULL',
        /no space is left.*prune/,
      )
    assert.deepEqual(await keysOf(storage, ''), ['first'])
    assert.deepEqual(readdirSync(join(root, '.incoming')), [])
    assert.deepEqual(await storage.get('first'), mebibyte)
    await storage.put('third', [mebibyte])
    await refuses(storage.put('first', Array(8).fill(mebibyte)), 'STORAGE_FULL', /no room for first/)
    assert.deepEqual(await storage.get('first'), mebibyte)
    execFileSync('/bin/mount', ['-o', 'remount,ro', root])
    await refuses(storage.put('fourth', [mebibyte]), 'STORAGE_REFUSED', /read-only.*Mount it for writing/)
    assert.deepEqual(await storage.get('third'), mebibyte)
    assert.deepEqual(await keysOf(await open(root), ''), ['first', 'third'])
  })

  test('a directory whose parent is absent is not made: the disk may not be mounted', async t => {
    const root = join(newDirectory(t), 'not', 'mounted')
    await refuses(open(root), 'STORAGE_REFUSED', /there is no directory .*not.*Mount/)
    assert(!existsSync(join(root, '..')))
  })

  test('an object where a directory is needed, and the other way round, is named', async t => {
    const root = newDirectory(t)
    const storage = await open(root)
    await storage.put('a', [Buffer.from('x')])
    await refuses(storage.put('a/b', []), 'STORAGE_REFUSED', /a file stands where/)
    await storage.put('c/d', [Buffer.from('x')])
    await refuses(storage.put('c', []), 'STORAGE_REFUSED', /a directory stands where/)
    await refuses(storage.putNew('c', []), 'STORAGE_REFUSED', /a directory stands where/)
    await assert.rejects(storage.get('c'), hasCode('STORAGE_NOT_FOUND'))
    assert.deepEqual(globSync('**/*', { cwd: join(root, '.incoming') }), [])
  })

  test('a directory that is taken away is missed, and used again when it is back', async t => {
    const parent = newDirectory(t)
    const root = join(parent, 'inner', 'root')
    mkdirSync(root, { recursive: true })
    const storage = await open(root)
    rmSync(join(parent, 'inner'), { recursive: true })
    await refuses(storage.put('a', []), 'STORAGE_UNAVAILABLE', /directory is gone/)
    mkdirSync(join(parent, 'inner'))
    await storage.put('a', [Buffer.from('x')])
    assert.equal((await storage.head('a'))?.bytes, 1)
  })
})

function tmpfsSkip(): string | false {
  return isRoot && process.platform === 'linux' ? false : 'a small disk needs root on Linux: run it as root'
}

/** A disk of 4 MiB. */
function mountSmall(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'my-full-'))
  execFileSync('/bin/mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'tmpfs', root])
  t.after(() => {
    execFileSync('/bin/umount', [root])
    rmSync(root, { recursive: true })
  })
  return root
}
