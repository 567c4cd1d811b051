import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deletionDocument, readDeletion, readError, readListing } from './s3-documents.ts'

const xml = (text: string) => Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`)
const listing = (inner: string) =>
  xml(`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inner}</ListBucketResult>`)

test('a listing of none, one and more objects is read, with escapes and namespaces', () => {
  assert.deepEqual(readListing(listing('<IsTruncated>false</IsTruncated>')), {
    objects: [],
    continuation: undefined,
  })
  const one = '<Contents><Key>a&amp;b</Key><LastModified>x</LastModified><Size>12</Size></Contents>'
  const page = readListing(
    listing(
      `<IsTruncated>true</IsTruncated>${one}<Contents>\n<Size>0</Size><Key>c</Key></Contents><NextContinuationToken>t/1=</NextContinuationToken>`,
    ),
  )
  assert.deepEqual(page, {
    objects: [
      { key: 'a&b', bytes: 12 },
      { key: 'c', bytes: 0 },
    ],
    continuation: 't/1=',
  })
})

test('keys are decoded when the store says that it encoded them', () => {
  const key = '<Contents><Key>a%2Fb+c%2B</Key><Size>1</Size></Contents>'
  assert.equal(readListing(listing(key))?.objects[0]?.key, 'a%2Fb+c%2B')
  const encoded = `<EncodingType>url</EncodingType>${key}`
  assert.equal(readListing(listing(encoded))?.objects[0]?.key, 'a/b c+')
})

test('what is no whole listing is not taken for one', () => {
  const broken = [
    Buffer.alloc(0),
    Buffer.from('<html><body>Welcome</body></html>'),
    Buffer.from('{"Contents":[]}'),
    listing('<IsTruncated>true</IsTruncated>'),
    listing('<Contents><Key>a</Key></Contents>').subarray(0, -10),
    listing('<Contents><Key>a</Key><Size>many</Size></Contents>'),
    xml('<Error><Code>NoSuchBucket</Code></Error>'),
  ]
  for (const body of broken) assert.equal(readListing(body), undefined, body.toString())
})

test('an error is read, and anything else is one without a code', () => {
  assert.deepEqual(readError(xml('<Error><Code>SlowDown</Code><Message>a &lt; b</Message></Error>')), {
    code: 'SlowDown',
    message: 'a < b',
  })
  for (const body of ['', 'Bad Gateway', '<html></html>'])
    assert.deepEqual(readError(Buffer.from(body)), { code: '', message: '' })
})

test('what could not be deleted is named', () => {
  const error = '<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>'
  assert.deepEqual(readDeletion(xml(`<DeleteResult>${error}</DeleteResult>`)), [
    { key: 'a', code: 'AccessDenied', message: 'no' },
  ])
  assert.deepEqual(readDeletion(xml('<DeleteResult/>')), [])
  assert.equal(readDeletion(Buffer.from('ok')), undefined)
})

test('nothing but keys gets into the document of a deletion', () => {
  assert.match(deletionDocument(['a/b', 'c']), /<Object><Key>a\/b<\/Key><\/Object><Object><Key>c</)
  assert.throws(() => deletionDocument(['a<b']), TypeError)
})
