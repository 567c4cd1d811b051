import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '#lib/errors.ts'
import { diskFailure } from './disk-failures.ts'
import { storageError } from './errors.ts'

const facts = { key: 'a/b', storage: 'file:///srv/backups' }
const failureOf = (code: string) => diskFailure(Object.assign(new Error('raw text'), { code }), facts)

const rows: Array<[code: string, row: string, says: RegExp]> = [
  ['ENOSPC', 'STORAGE_FULL', /no room for a\/b \(no space is left.*prune/],
  ['EDQUOT', 'STORAGE_FULL', /quota/],
  ['EIO', 'STORAGE_UNAVAILABLE', /the disk reports an error/],
  ['ESTALE', 'STORAGE_UNAVAILABLE', /network file system/],
  ['EROFS', 'STORAGE_REFUSED', /mounted read-only.*Mount it for writing/],
  ['EACCES', 'STORAGE_REFUSED', /this user may not.*chown/],
  ['EPERM', 'STORAGE_REFUSED', /hard links/],
  ['EOPNOTSUPP', 'STORAGE_REFUSED', /hard links/],
  ['ENOENT', 'STORAGE_NOT_FOUND', /no a\/b in file/],
]
for (const [code, row, says] of rows) {
  test(`${code} becomes ${row} with a mend in words`, () => {
    const failure = failureOf(code)
    assert(failure instanceof Failure)
    assert.equal(failure.code, row)
    assert.match(`${failure.message} ${failure.hint}`, says)
    assert.doesNotMatch(`${failure.message} ${failure.hint}`, /raw text|\{\w+\}/)
    assert.equal((failure.cause as Error).message, 'raw text')
  })
}

test('a refused listing of everything names no object', () => {
  const refused = Object.assign(new Error('raw text'), { code: 'EACCES' })
  const failure = diskFailure(refused, { ...facts, key: '' }) as Failure
  assert.match(failure.message, /may not write or read there\.$/)
})

test('what is no error of a disk is left as it is', () => {
  const mistake = new TypeError('a mistake')
  const failure = storageError('STORAGE_TIMEOUT', {})
  const aborted = AbortSignal.abort().reason
  for (const error of [mistake, failure, aborted]) assert.equal(diskFailure(error, facts), error)
})
