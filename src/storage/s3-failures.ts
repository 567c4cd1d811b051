import type { Failure } from '#lib/errors.ts'
import { storageError } from './errors.ts'
import { type ErrorDocument, readError } from './s3-documents.ts'
import type { S3Answer, Trouble } from './s3-request.ts'

/** What an answer asks for: `again` later, or never. */
export interface Refusal extends ErrorDocument {
  status: number
  again: boolean
  region: string | undefined
}

// 409 is ConditionalRequestConflict or OperationAborted: somebody else writes the same key at this moment.
const passing = new Set([408, 409, 425, 429, 500, 502, 503, 504])
// The body did not arrive as it was sent; sent again it may.
const damaged = new Set([
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'IncompleteBody',
  'RequestTimeout',
])

export function refusalOf(answer: S3Answer): Refusal {
  const document = readError(answer.body)
  const region = answer.headers['x-amz-bucket-region']
  return {
    ...document,
    status: answer.status,
    again:
      (passing.has(answer.status) && document.code !== 'BucketAlreadyExists') || damaged.has(document.code),
    region: typeof region === 'string' ? region : undefined,
  }
}

interface Place {
  /** Description of the storage. */
  storage: string
  bucket: string
  host: string
  key: string
}

// Texts of the store are for people only and may be long or strange.
const longestText = 200

/** What it means for the person who set the store up. */
export function refusalFailure(refusal: Refusal, place: Place): Failure {
  const { status, code } = refusal
  const facts = { storage: place.storage, key: place.key, status, code }
  const said = `it answers ${status}${code ? ` ${code}` : ''}${refusal.message ? ` (${printable(refusal.message)})` : ''}`
  if (status === 507 || /StorageFull|QuotaExceeded|InsufficientStorage/.test(code))
    return storageError('STORAGE_FULL', { ...facts, reason: said })
  if (refusal.again) return storageError('STORAGE_UNAVAILABLE', { ...facts, reason: said })
  const [reason, mend] = wordsFor(refusal, place) ?? [
    `${said} for ${place.key || 'the bucket'}`,
    'See what the store says about this answer.',
  ]
  return storageError('STORAGE_REFUSED', { ...facts, reason, mend })
}

function wordsFor(refusal: Refusal, { bucket, host }: Place): [reason: string, mend: string] | undefined {
  switch (refusal.code) {
    case 'NoSuchBucket':
      return [
        `there is no bucket ${bucket} at ${host}`,
        'Make the bucket, or mend its name in BACKUP_REPOSITORY.',
      ]
    case 'InvalidAccessKeyId':
      return ['it does not know the access key id', 'Mend MOONYETIS_BACKUP__S3_ACCESS_KEY_ID.']
    case 'SignatureDoesNotMatch':
      return [
        'the secret access key does not belong to the access key id',
        'Mend MOONYETIS_BACKUP__S3_SECRET_ACCESS_KEY; a proxy that changes requests gives the same answer.',
      ]
    case 'RequestTimeTooSkewed':
      return ["this machine's clock is more than 15 minutes wrong", 'Set the clock, best by NTP.']
    case 'AuthorizationHeaderMalformed':
    case 'PermanentRedirect':
    case 'TemporaryRedirect':
    case 'IllegalLocationConstraintException':
      return wrongRegion(refusal, bucket)
    case 'EntityTooLarge':
      return ['an object is larger than it takes', 'Raise the limit of the store to 80 MiB.']
  }
  if (refusal.status === 301 || refusal.status === 307) return wrongRegion(refusal, bucket)
  if (refusal.status === 401 || refusal.status === 403)
    return [
      `this access key may not do that in bucket ${bucket}${refusal.code ? ` (${refusal.code})` : ''}`,
      'Allow it s3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject on its objects.',
    ]
  return undefined
}

function wrongRegion({ region }: Refusal, bucket: string): [string, string] {
  return [
    `bucket ${bucket} is in another region${region ? `, ${printable(region)}` : ''}`,
    'Set MOONYETIS_BACKUP__S3_REGION to the region of the bucket.',
  ]
}

/** After the last try. */
export function troubleFailure(trouble: Trouble, method: string, place: Place): Failure {
  const facts = { storage: place.storage, key: place.key, host: place.host }
  if (trouble.kind === 'truncated' && method === 'GET' && place.key !== '')
    return storageError(
      'STORAGE_TRUNCATED',
      { ...facts, got: trouble.got, expected: 'more' },
      { cause: trouble },
    )
  const reason = `${place.host}: ${trouble.message}`
  return storageError(
    trouble.kind === 'timeout' ? 'STORAGE_TIMEOUT' : 'STORAGE_UNAVAILABLE',
    { ...facts, reason },
    { cause: trouble },
  )
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, longestText)
}
