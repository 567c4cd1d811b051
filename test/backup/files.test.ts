import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { restoreFileSet, takeFileSet } from '#backup/files/file-set.ts'
import { readHome } from '#backup/files/read-home.ts'
import { writeEntries } from '#backup/files/write-files.ts'
import { type BackupMarker, formatVersion } from '#backup/model.ts'
import { type Home, openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { tarEnd, tarHeader } from '#postgres/wire/tar-writer.ts'
import { type BackupPlace, backupPlace } from '#test/backup/backing-up.ts'

const isRoot = process.getuid?.() === 0
const at = new Date('2026-01-02T03:04:05Z')

function newDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'files-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function put(path: string, content: string, mode = 0o600): void {
  writeFileSync(path, content)
  chmodSync(path, mode)
  utimesSync(path, at, at)
}

/** Of everything that a backup must keep, one. */
function furnish(home: Home): void {
  mkdirSync(join(home.secrets, 'seed_keys', 'empty'), { recursive: true })
  put(join(home.secrets, 'seed_keys', 'k1'), 'seed')
  put(join(home.secure, 'player.key'), 'key', 0o640)
  put(join(home.ssl, 'cert.pem'), 'certificate', 0o444)
  symlinkSync('cert.pem', join(home.ssl, 'current'))
  symlinkSync('/etc/hostname', join(home.ssl, 'outside'))
  put(join(home.ssl, `${'long-name-'.repeat(20)}.pem`), 'long')
  put(home.configFile, '{}', 0o644)
  put(join(home.state, 'topology.json'), 'of this machine')
  put(join(home.run, 'up.pid'), '1')
  put(join(home.secrets, '.session_key.77.tmp'), 'half written')
  if (isRoot) chownSync(join(home.secure, 'player.key'), 1234, 4321)
  chmodSync(join(home.secrets, 'seed_keys'), 0o500)
  utimesSync(join(home.secrets, 'seed_keys'), at, at)
}

interface Seen {
  path: string
  mode: number
  owner: string
  modifiedAt: number
  content: string
}

function seenBelow(root: string, members: string[]): Seen[] {
  const paths = members.flatMap(member => {
    const isDirectory = lstatSync(join(root, member)).isDirectory()
    const below = isDirectory ? (readdirSync(join(root, member), { recursive: true }) as string[]) : []
    return [member, ...below.map(name => join(member, name))]
  })
  return paths.sort().map(path => {
    const stats = lstatSync(join(root, path))
    const isLink = stats.isSymbolicLink()
    return {
      path,
      mode: stats.mode,
      owner: `${stats.uid}:${stats.gid}`,
      // A link's own time cannot be set by Node.
      modifiedAt: isLink ? 0 : Math.floor(stats.mtimeMs / 1000),
      content: isLink
        ? readlinkSync(join(root, path))
        : stats.isFile()
          ? readFileSync(join(root, path), 'latin1')
          : '',
    }
  })
}

const members = ['.secrets', '.secure', '.ssl', 'config.json']

async function takeInto(place: BackupPlace, id = 'files-1'): Promise<BackupMarker> {
  const { repository, home } = place
  const dataKey = await repository.newDataKey()
  const { object, count, bytes } = await takeFileSet({ home, repository, dataKey, id, log: silentLog })
  return {
    format: formatVersion,
    repositoryId: repository.id,
    id,
    kind: 'files',
    program: 'test',
    startedAt: at.toISOString(),
    finishedAt: at.toISOString(),
    files: { count, bytes, object: object.key },
    objects: [object],
    dataKeys: [dataKey.id],
    rawBytes: bytes,
    storedBytes: object.bytes,
  }
}

describe('the files of a home', () => {
  test('come back with modes, owners, times, links and empty directories', async t => {
    const place = await backupPlace(t)
    furnish(place.home)
    const before = seenBelow(place.home.root, members).filter(one => !one.path.endsWith('.tmp'))
    const marker = await takeInto(place)
    const to = join(newDirectory(t), 'restored')
    const { count } = await restoreFileSet({ repository: place.repository, marker, to })
    assert.deepEqual(seenBelow(to, members), before)
    assert.equal(count, marker.files?.count)
    assert.deepEqual(readdirSync(to).sort(), members)
  })

  test('make the same archive as long as they are the same', async t => {
    const place = await backupPlace(t)
    furnish(place.home)
    const [first, second] = [await takeInto(place, 'one'), await takeInto(place, 'two')]
    const content = async (marker: BackupMarker) =>
      (await place.repository.readSealed(marker.files?.object ?? '')).bytes
    assert.deepEqual(await content(second), await content(first))
    const archive = join(newDirectory(t), 'files.tar')
    writeFileSync(archive, await content(first))
    const listed = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' })
    assert.match(listed, /^\.secrets\/seed_keys\/empty\/$/m)
  })

  test('can be had in part', async t => {
    const place = await backupPlace(t)
    furnish(place.home)
    const { repository } = place
    const marker = await takeInto(place)
    const to = newDirectory(t)
    await restoreFileSet({ repository, marker, to, only: ['.secrets/seed_keys', 'config.json'] })
    assert.deepEqual(readdirSync(to).sort(), ['.secrets', 'config.json'])
    assert.deepEqual(readdirSync(join(to, '.secrets')), ['seed_keys'])
    const none = restoreFileSet({ repository, marker, to: newDirectory(t), only: ['.nothing'] })
    await assert.rejects(none, { code: 'FILES_NOT_IN_BACKUP' })
  })

  test('replace nothing: only empty directories may be there', async t => {
    const place = await backupPlace(t)
    const { repository } = place
    const marker = await takeInto(place)
    const fresh = openHome(newDirectory(t))
    await restoreFileSet({ repository, marker, to: fresh.root })
    const again = restoreFileSet({ repository, marker, to: fresh.root })
    await assert.rejects(again, { code: 'FILES_TARGET_OCCUPIED', message: /^\.secrets is there already/ })
  })

  test('an owner who is given owns all of it', {
    skip: isRoot ? false : 'needs root, to change owners: run the tests as root',
  }, async t => {
    const place = await backupPlace(t)
    furnish(place.home)
    const marker = await takeInto(place)
    const to = newDirectory(t)
    await restoreFileSet({ repository: place.repository, marker, to, owner: { uid: 77, gid: 78 } })
    assert.deepEqual([...new Set(seenBelow(to, members).map(one => one.owner))], ['77:78'])
  })
})

describe('reading a home', () => {
  test('leaves out what is no file, and says so', async t => {
    const home = openHome(newDirectory(t))
    furnish(home)
    const socket = createServer().listen(join(home.secure, 's'))
    t.after(() => socket.close())
    execFileSync('mkfifo', [join(home.secure, 'pipe')])
    const { skipped, entries } = await readHome(home.root)
    assert.deepEqual(
      skipped.map(one => one.path),
      ['.secure/pipe', '.secure/s'],
    )
    assert(!entries.some(one => one.path.includes('topology') || one.path.includes('.tmp')))
  })

  test('refuses more than an object holds, and names the largest file', async t => {
    const home = openHome(newDirectory(t))
    put(join(home.secure, 'small'), 'x'.repeat(400))
    put(join(home.secure, 'large'), 'x'.repeat(900))
    await assert.rejects(readHome(home.root, { limitBytes: 1000 }), {
      code: 'FILES_TOO_LARGE',
      message: /the largest is \.secure\/large/,
    })
  })

  const onlyUtf8 = process.platform === 'darwin' ? 'file names of macOS are always UTF-8' : false
  test('refuses to make a backup without a file that it cannot read', { skip: onlyUtf8 }, async t => {
    const home = openHome(newDirectory(t))
    execFileSync('sh', ['-c', 'touch "$(printf "bad\\377")"'], { cwd: home.secure })
    await assert.rejects(readHome(home.root), { code: 'FILES_UNREADABLE', message: /its name is not UTF-8/ })
  })

  test('a home with nothing in it is an empty set', async t => {
    assert.deepEqual(await readHome(newDirectory(t)), { entries: [], bytes: 0, skipped: [] })
  })

  test('a file that never rests is not taken half old, half new', async t => {
    const home = openHome(newDirectory(t))
    const path = join(home.secure, 'busy')
    const sizes = [10, 3_000_000]
    writeFileSync(path, 'a'.repeat(sizes[0] as number))
    // Whatever is read is one of the two contents that were ever there.
    const timer = setInterval(() => put(path, 'ab'.repeat(sizes[1] as number).slice(0, sizes[1])), 1)
    try {
      const { entries } = await readHome(home.root)
      const length = entries.find(one => one.path === '.secure/busy')?.content?.length ?? -1
      assert(sizes.includes(length), `${length} bytes`)
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'FILES_UNREADABLE')
    } finally {
      clearInterval(timer)
    }
  })
})

describe('an archive that leads out of its directory', () => {
  const attributes = { mode: 0o644, uid: 0, gid: 0, modifiedAt: 0 }

  test('is refused before anything is written', t => {
    const to = join(newDirectory(t), 'to')
    const link = tarHeader({ path: 'a', type: 'symlink', link: '/tmp', ...attributes })
    const behind = tarHeader({ path: 'a/b', type: 'file', bytes: 0, ...attributes })
    assert.throws(() => writeEntries({ archive: Buffer.concat([link, behind, tarEnd]), to }), {
      code: 'FILES_LEAD_OUT',
      message: /^a\/b of the backup lies behind a link/,
    })
    const up = tarHeader({ path: 'xx/escape', type: 'file', bytes: 0, ...attributes })
    up.write('../escape', 0, 'latin1')
    up.fill(' ', 148, 156)
    const sum = up.reduce((total, byte) => total + byte, 0)
    up.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    assert.throws(() => writeEntries({ archive: Buffer.concat([up, tarEnd]), to }), { code: 'TAR_INVALID' })
    assert.throws(() => readdirSync(to), { code: 'ENOENT' })
  })
})
