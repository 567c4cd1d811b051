import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '#lib/errors.ts'
import { type TarEntry, TarReader } from './tar.ts'
import { headerChecksum } from './tar-header.ts'
import { type NewTarEntry, tarEnd, tarHeader, tarPadding } from './tar-writer.ts'
import { cut } from './testing.ts'

interface Unpacked extends TarEntry {
  content: Buffer
}

function unpack(pieces: Buffer[]): Unpacked[] {
  const entries: Unpacked[] = []
  let finished = 0
  const reader = new TarReader({
    entry: entry => void entries.push({ ...entry, content: Buffer.alloc(0) }),
    data: bytes => {
      const last = entries.at(-1) as Unpacked
      last.content = Buffer.concat([last.content, bytes])
    },
    done: () => void finished++,
  })
  for (const piece of pieces) reader.push(piece)
  reader.end()
  assert.equal(finished, entries.length)
  return entries
}

interface Source extends NewTarEntry {
  content: Buffer
}

function pack(sources: Source[]): Buffer {
  const parts = sources.flatMap(source => [
    tarHeader({ ...source, bytes: source.content.length }),
    source.content,
    tarPadding(source.content.length),
  ])
  return Buffer.concat([...parts, tarEnd])
}

const plain = { mode: 0o640, uid: 1000, gid: 1001, modifiedAt: 1_700_000_000 }
const source = (path: string, content = '', more: Partial<Source> = {}): Source => ({
  path,
  type: 'file',
  content: Buffer.from(content),
  ...plain,
  ...more,
})

function invalid(words: RegExp) {
  return (error: unknown) => {
    assert(error instanceof Failure && error.code === 'TAR_INVALID', String(error))
    assert.match(error.message, words)
    return true
  }
}

/** An archive of one entry whose header was changed, its checksum made anew. */
function changed(change: (header: Buffer) => void): Buffer {
  const header = tarHeader(source('a', ''))
  change(header)
  header.write(`${headerChecksum(header).toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return Buffer.concat([header, tarEnd])
}

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'my-tar-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

describe('a tar archive', () => {
  const name = fc.stringMatching(/^[a-zA-Z0-9 é_-]{1,60}$/)
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map(parts => parts.join('/'))
  const file = fc.record({
    path,
    type: fc.constant('file' as const),
    content: fc.uint8Array({ maxLength: 1500 }).map(bytes => Buffer.from(bytes)),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.oneof(fc.nat(70_000), fc.constant(0xffff_fffe)),
    gid: fc.nat(70_000),
    modifiedAt: fc.nat(),
  })

  test('is read as it was written, wherever it is cut', () => {
    const places = fc.array(fc.nat(), { maxLength: 30 })
    fc.assert(
      fc.property(fc.array(file, { maxLength: 5 }), places, (sources, cuts) => {
        const archive = pack(sources)
        const entries = unpack(cut(archive, cuts))
        assert.deepEqual(
          entries.map(({ headerOffset, contentOffset, ...entry }) => entry),
          sources.map(one => ({ ...one, bytes: one.content.length })),
        )
        for (const { contentOffset, content } of entries)
          assert.deepEqual(archive.subarray(contentOffset, contentOffset + content.length), content)
      }),
    )
  })

  test('can be taken apart by the offsets of its entries', () => {
    const archive = pack([source('a', 'one'), source('b'.repeat(200), 'two'), source('c', 'three')])
    const [, second, third] = unpack([archive])
    const part = archive.subarray(second?.headerOffset, third?.headerOffset)
    assert.deepEqual(unpack([part, tarEnd])[0]?.content, Buffer.from('two'))
  })

  test('is unpacked by tar with modes, times, links and long names', t => {
    const directory = scratch(t)
    const long = `${'d'.repeat(90)}/${'f'.repeat(120)}`
    const sources = [
      source('d'.repeat(90), '', { type: 'directory', mode: 0o700 }),
      source(long, 'deep', { mode: 0o600 }),
      source('link', '', { type: 'symlink', link: `../${'x'.repeat(150)}` }),
    ]
    execFileSync('tar', ['-xpf', '-', '--no-same-owner', '-C', directory], { input: pack(sources) })
    assert.equal(readFileSync(join(directory, long), 'utf8'), 'deep')
    const { mode, mtimeMs } = lstatSync(join(directory, long))
    assert.deepEqual([mode & 0o777, mtimeMs / 1000], [0o600, plain.modifiedAt])
    assert.equal(readlinkSync(join(directory, 'link')), `../${'x'.repeat(150)}`)
    assert.equal(lstatSync(join(directory, 'd'.repeat(90))).mode & 0o777, 0o700)
  })

  for (const format of ['ustar', 'gnu', 'pax', 'posix'] as const) {
    test(`of tar's format ${format} is read`, t => {
      const directory = scratch(t)
      // ustar cannot have more than 256 bytes, nor a name of more than 100 below its last slash.
      const long =
        format === 'ustar' ? `${'d'.repeat(90)}/${'f'.repeat(90)}` : `${'d'.repeat(120)}/${'f'.repeat(130)}`
      const [parent = ''] = long.split('/')
      mkdirSync(join(directory, parent))
      writeFileSync(join(directory, long), 'x'.repeat(1000), { mode: 0o640 })
      utimesSync(join(directory, long), 1_600_000_000, 1_600_000_000)
      symlinkSync('/somewhere/else', join(directory, 'link'))
      const archive = execFileSync('tar', ['-cf', '-', `--format=${format}`, '-C', directory, '.'])
      const entries = unpack([archive]).sort((a, b) => (a.path < b.path ? -1 : 1))
      assert.deepEqual(
        entries.map(({ path, type, bytes, link }) => ({ path, type, bytes, link })),
        [
          { path: '.', type: 'directory', bytes: 0, link: undefined },
          { path: parent, type: 'directory', bytes: 0, link: undefined },
          { path: long, type: 'file', bytes: 1000, link: undefined },
          { path: 'link', type: 'symlink', bytes: 0, link: '/somewhere/else' },
        ],
      )
      assert.equal(entries[2]?.modifiedAt, 1_600_000_000)
    })
  }

  test('of more than eight gigabytes is described in base 256 too', () => {
    const header = changed(block => {
      block[124] = 0x80
      block.writeUIntBE(0, 125, 5)
      block.writeUIntBE(9_000_000_000, 130, 6)
    })
    let bytes = 0
    new TarReader({
      entry: entry => {
        bytes = entry.bytes
      },
      data: () => {},
    }).push(header.subarray(0, 512))
    assert.equal(bytes, 9_000_000_000)
    assert.match(
      tarHeader({ ...source('big'), bytes: 9_000_000_000 }).toString('latin1'),
      /19 size=9000000000\n/,
    )
  })

  test('finds every flipped bit of a header', () => {
    const archive = pack([source('name', '')])
    for (let at = 0; at < 512; at++) {
      const flipped = Buffer.from(archive)
      flipped[at] = (flipped[at] as number) ^ 1
      // Inside the checksum a flip may give the same number only in its unused last byte.
      if (at === 155) continue
      assert.throws(() => unpack([flipped]), invalid(/./), `byte ${at}`)
    }
  })

  test('finds every truncation', () => {
    const archive = pack([source('name', 'content')])
    for (let length = 0; length < archive.length; length++)
      assert.throws(() => unpack([archive.subarray(0, length)]), invalid(/ends too early/), `${length} bytes`)
  })

  const path100 = (text: string) => (header: Buffer) => {
    header.fill(0, 0, 100)
    header.write(text, 'utf8')
  }
  const refused: Array<[what: string, archive: Buffer, words: RegExp]> = [
    ['an absolute path', changed(path100('/etc/passwd')), /"\/etc\/passwd" leads out/],
    ['a path upwards', changed(path100('a/../../b')), /leads out/],
    ['no path at all', changed(path100('')), /leads out/],
    ['a hard link', changed(header => header.write('1', 156)), /type 49/],
    ['a device', changed(header => header.write('3', 156)), /type 51/],
    [
      'a directory with content',
      changed(header => header.write('5', 156) && header.write('00000000001', 124)),
      /directory with content/,
    ],
    ['a symlink to nowhere', changed(header => header.write('2', 156)), /to nowhere/],
    ['a size that is none', changed(header => header.write('0000000009 ', 124)), /size that is no number/],
    [
      'an extension beyond the limit',
      changed(header => header.write('L', 156) && header.write('77777777777', 124)),
      /extension header of/,
    ],
    ['something behind its end', Buffer.concat([pack([]), tarHeader(source('a'))]), /follows its end/],
    [
      'an extension without an entry',
      Buffer.concat([tarHeader(source('a'.repeat(200))).subarray(0, 1024), tarEnd]),
      /without an entry/,
    ],
  ]
  for (const [what, archive, words] of refused)
    test(`is refused with ${what}`, () => assert.throws(() => unpack([archive]), invalid(words)))

  test('is not written with a path that leads out of it', () => {
    for (const path of ['', '/a', '../a', 'a/../b', 'a\0b'])
      assert.throws(() => tarHeader(source(path)), TypeError)
  })
})
