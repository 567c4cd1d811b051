import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Failure } from '#lib/errors.ts'
import { endpointFor, parseLocation } from './locations.ts'

const refuses = (work: () => unknown, says: RegExp) =>
  assert.throws(work, error => {
    assert(error instanceof Failure && error.code === 'STORAGE_URL_INVALID')
    assert.match(error.message, says)
    return true
  })

describe('the address of a storage', () => {
  test('file:// is a directory, with or without a slash at its end', () => {
    for (const url of [
      'file:///srv/my%20backups',
      'file:///srv/my backups/',
      'file://localhost/srv/my%20backups',
    ])
      assert.deepEqual(parseLocation(url), { kind: 'disk', root: '/srv/my backups' })
  })

  test('s3:// is a bucket and what comes before every key', () => {
    assert.deepEqual(parseLocation('s3://my-bucket'), { kind: 's3', bucket: 'my-bucket', prefix: '' })
    assert.deepEqual(parseLocation('s3://my-bucket/'), { kind: 's3', bucket: 'my-bucket', prefix: '' })
    assert.deepEqual(parseLocation('s3://my.bucket/a/b_c/'), {
      kind: 's3',
      bucket: 'my.bucket',
      prefix: 'a/b_c',
    })
  })

  const wrong: Array<[url: string, says: RegExp]> = [
    ['', /\(empty\).*not a URL/],
    ['/srv/backups', /not a URL/],
    ['file://srv/backups', /names the host srv.*three slashes/],
    ['file:///', /root of the file system/],
    ['file:///srv/a?b', /\? or #/],
    ['file:///srv/a%2Fb', /cannot be read/],
    ['ftp://host/dir', /ftp: is not known/],
    ['s3://', /nothing is not the name of a bucket/],
    ['s3://My_Bucket/x', /not the name of a bucket/],
    ['s3://ab', /not the name of a bucket/],
    ['s3://bucket/a b', /other characters/],
    ['s3://bucket/a/../../b//c', /other characters/],
    ['s3://bucket/.hidden', /other characters/],
  ]
  for (const [url, says] of wrong)
    test(`${url || 'the empty text'} is refused with its reason`, () =>
      refuses(() => parseLocation(url), says))

  test('a password in it is refused and not repeated', () => {
    for (const work of [
      () => parseLocation('s3://AKIDXX:hush@bucket/x'),
      () => endpointFor({ bucket: 'b', region: 'r', endpoint: 'https://AKIDXX:hush@host' }),
    ])
      assert.throws(work, error => error instanceof Failure && !/hush|AKIDXX/.test(error.message))
  })
})

describe('where requests go', () => {
  const at = (endpoint?: string, bucket = 'bucket', region = 'eu-west-1') =>
    endpointFor({ bucket, region, ...(endpoint && { endpoint }) }).base

  test('at Amazon the bucket is in the host, unless its dots would not fit the certificate', () => {
    assert.equal(at(), 'https://bucket.s3.eu-west-1.amazonaws.com')
    assert.equal(at(undefined, 'my.bucket'), 'https://s3.eu-west-1.amazonaws.com/my.bucket')
    assert.equal(at(undefined, 'bucket', 'cn-north-1'), 'https://bucket.s3.cn-north-1.amazonaws.com.cn')
  })

  test('at another store the bucket is the first part of the path', () => {
    assert.equal(at('https://store.example:9000'), 'https://store.example:9000/bucket')
    assert.equal(at('https://store.example/base/'), 'https://store.example/base/bucket')
  })

  test('plain http is for this machine, or for who says that it is meant', () => {
    for (const host of ['127.0.0.1:9000', 'localhost:9000', '[::1]:9000', '127.1.2.3'])
      assert.equal(at(`http://${host}`), `http://${host}/bucket`)
    refuses(() => at('http://store.example'), /plain http/)
    refuses(() => at('http://10.0.0.1:9000'), /plain http/)
    refuses(() => at('http://localhost.example'), /plain http/)
    const meant = { bucket: 'bucket', region: 'r', endpoint: 'http://minio:9000', allowPlainHttp: true }
    assert.equal(endpointFor(meant).base, 'http://minio:9000/bucket')
  })

  test('what is no URL of a store is refused', () => {
    refuses(() => at('store.example'), /no http or https URL/)
    refuses(() => at('s3://store'), /no http or https URL/)
    refuses(() => at('https://store.example/?x=1'), /\? or #/)
  })
})
