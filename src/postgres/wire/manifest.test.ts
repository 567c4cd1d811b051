import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { Failure } from '#lib/errors.ts'
import { crc32cHex, parseServerManifest } from './manifest.ts'

const file = (path: string, more = '') => `{ "Path": "${path}", "Size": 3${more} }`
const checksum =
  ', "Last-Modified": "2026-11-24 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "0a1b2c3d"'
const range = '{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }'

/** As PostgreSQL writes it, its checksum included. */
function manifest(o: { version?: string; files?: string[]; ranges?: string } = {}): Buffer {
  const files = o.files ?? [file('backup_label', checksum), file('base/1/2')]
  const head = o.version ?? '2,\n"System-Identifier": 7711677056603304589'
  const text =
    `{ "PostgreSQL-Backup-Manifest-Version": ${head},\n"Files": [\n${files.join(',\n')}\n],\n` +
    `"WAL-Ranges": [\n${o.ranges ?? range}\n],\n`
  return seal(text)
}

function seal(text: string): Buffer {
  const sum = createHash('sha256').update(text).digest('hex')
  return Buffer.from(`${text}"Manifest-Checksum": "${sum}"}\n`)
}

function invalid(words: RegExp) {
  return (error: unknown) => {
    assert(error instanceof Failure && error.code === 'MANIFEST_INVALID', String(error))
    assert.match(error.message, words)
    return true
  }
}

describe('parseServerManifest', () => {
  test('reads what version 2 says, the system identifier to its last digit', () => {
    const read = parseServerManifest(manifest())
    assert.deepEqual(read, {
      version: 2,
      systemIdentifier: '7711677056603304589',
      files: [
        { path: 'backup_label', bytes: 3, checksumAlgorithm: 'CRC32C', checksum: '0a1b2c3d' },
        { path: 'base/1/2', bytes: 3 },
      ],
      walRanges: [{ timeline: 1, start: 0x2000028n, end: 0x2000100n }],
    })
  })

  test('reads version 1, which has no system identifier', () => {
    assert.equal(parseServerManifest(manifest({ version: '1' })).systemIdentifier, undefined)
  })

  test('is not misled by a path that looks like the system identifier', () => {
    const files = [file('\\"System-Identifier\\": 5,')]
    const read = parseServerManifest(manifest({ files }))
    assert.equal(read.systemIdentifier, '7711677056603304589')
    assert.throws(
      () => parseServerManifest(manifest({ files, version: '2' })),
      invalid(/no system identifier/),
    )
  })

  test('decodes paths that are no UTF-8', () => {
    const files = ['{ "Encoded-Path": "62e9", "Size": 0 }', '{ "Encoded-Path": "62c3a9", "Size": 0 }']
    const paths = parseServerManifest(manifest({ files: files.slice(0, 1) })).files.map(one => one.path)
    assert.deepEqual(paths, ['bé'])
    assert.equal(parseServerManifest(manifest({ files: files.slice(1) })).files[0]?.path, 'bé')
  })

  test('finds every flipped bit', () => {
    const bytes = manifest()
    for (let at = 0; at < bytes.length - 1; at++) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (flipped[at] as number) ^ 1
      assert.throws(() => parseServerManifest(flipped), invalid(/./), `byte ${at}`)
    }
  })

  test('finds every truncation', () => {
    const bytes = manifest()
    // The final line feed alone changes nothing.
    for (let length = 0; length < bytes.length - 1; length++)
      assert.throws(() => parseServerManifest(bytes.subarray(0, length)), invalid(/./), `${length} bytes`)
  })

  const refused: Array<[what: string, bytes: Buffer, words: RegExp]> = [
    ['an unknown version', manifest({ version: '3' }), /version 3/],
    ['a file without a path', manifest({ files: ['{ "Size": 1 }'] }), /no path/],
    ['a file without a size', manifest({ files: ['{ "Path": "a" }'] }), /a has no size/],
    ['half a checksum', manifest({ files: [file('a', ', "Checksum": "00"')] }), /checksum of a/],
    ['a file that is in it twice', manifest({ files: [file('a'), file('a')] }), /twice/],
    ['a range that ends before it begins', manifest({ ranges: range.replace('0/2000100', '0/1') }), /range/],
    [
      'something that is no list',
      seal('{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": 7,\n'),
      /no Files/,
    ],
    ['something that is no JSON', seal('{ what\n'), /JSON/],
  ]
  for (const [what, bytes, words] of refused)
    test(`refuses ${what}`, () => assert.throws(() => parseServerManifest(bytes), invalid(words)))
})

test('crc32cHex writes the bytes as a little-endian machine stores them', () => {
  // The check value of CRC-32C is e3069283.
  assert.equal(crc32cHex(crc32c('123456789')), '839206e3')
  assert.equal(crc32cHex(-1), 'ffffffff')
})
