import { fileURLToPath } from 'node:url'
import { storageError } from './errors.ts'
import { isKey } from './keys.ts'

export interface S3Location {
  kind: 's3'
  bucket: string
  /** Without slashes at its ends; may be empty. */
  prefix: string
}

export type Location = { kind: 'disk'; root: string } | S3Location

// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
const bucketName = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/

/** @throws STORAGE_URL_INVALID */
export function parseLocation(url: string): Location {
  const parsed = URL.parse(url)
  if (!parsed) throw invalid(url, 'it is not a URL')
  if (parsed.username || parsed.password)
    throw invalid(withoutUser(parsed), 'it holds a name or password, which belong in the access key settings')
  if (parsed.search || parsed.hash)
    throw invalid(url, 'it has a ? or #; in a path they are written %3F and %23')
  if (parsed.protocol === 'file:') return diskLocation(url, parsed)
  if (parsed.protocol === 's3:') return s3Location(url, parsed)
  throw invalid(url, `${parsed.protocol} is not known`)
}

function diskLocation(url: string, parsed: URL): Location {
  if (parsed.host !== '' && parsed.host !== 'localhost')
    throw invalid(url, `it names the host ${parsed.host}; a directory has three slashes: file:///srv/backups`)
  let root: string
  try {
    root = fileURLToPath(parsed)
  } catch {
    throw invalid(url, 'its path cannot be read')
  }
  const withoutSlash = root.replace(/\/+$/, '')
  if (withoutSlash === '') throw invalid(url, 'it is the root of the file system')
  return { kind: 'disk', root: withoutSlash }
}

function s3Location(url: string, parsed: URL): Location {
  const bucket = parsed.host
  if (!bucketName.test(bucket) || bucket.includes('..'))
    throw invalid(
      url,
      `${bucket || 'nothing'} is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens`,
    )
  const prefix = parsed.pathname.replace(/^\/|\/+$/g, '')
  if (prefix !== '' && !isKey(prefix))
    throw invalid(url, 'its prefix has other characters than A-Z a-z 0-9 . _ - and / between names')
  return { kind: 's3', bucket, prefix }
}

/** Where requests for one bucket go. */
export interface Endpoint {
  /** Scheme, host and what comes before the key, without a slash at the end. */
  base: string
  /** For people: without it Amazon's. */
  host: string
}

/**
 * With an endpoint the bucket is the first part of the path, as every compatible store takes it; without one it is in
 * the host name, as Amazon wants it, unless its dots would not fit Amazon's certificate.
 * @throws STORAGE_URL_INVALID also for plain http to another machine, unless `allowPlainHttp`
 */
export function endpointFor(o: {
  bucket: string
  region: string
  endpoint?: string | undefined
  allowPlainHttp?: boolean | undefined
}): Endpoint {
  if (!o.endpoint) return amazon(o.bucket, o.region)
  const parsed = URL.parse(o.endpoint)
  if (!parsed || !/^https?:$/.test(parsed.protocol))
    throw invalid(o.endpoint, 'the endpoint is no http or https URL')
  if (parsed.username || parsed.password)
    throw invalid(withoutUser(parsed), 'the endpoint holds a name or password')
  if (parsed.search || parsed.hash) throw invalid(o.endpoint, 'the endpoint has a ? or #')
  if (parsed.protocol === 'http:' && !o.allowPlainHttp && !isLoopback(parsed.hostname))
    throw invalid(o.endpoint, 'plain http is for stores on this machine; another one needs https')
  return {
    base: `${parsed.origin}${parsed.pathname.replace(/\/+$/, '')}/${o.bucket}`,
    host: parsed.host,
  }
}

function amazon(bucket: string, region: string): Endpoint {
  const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com'
  const host = `s3.${region}.${domain}`
  return { base: bucket.includes('.') ? `https://${host}/${bucket}` : `https://${bucket}.${host}`, host }
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)
}

function withoutUser(parsed: URL): string {
  const copy = new URL(parsed)
  copy.username = ''
  copy.password = ''
  return copy.href
}

function invalid(url: string, reason: string) {
  return storageError('STORAGE_URL_INVALID', { url: url || '(empty)', reason })
}
