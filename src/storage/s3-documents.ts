import { parseXml, XmlElement } from '@rgrove/parse-xml'
import { isKey } from './keys.ts'

export interface ErrorDocument {
  /** Such as NoSuchKey; empty when the answer has no readable document. */
  code: string
  message: string
}

/** Stores answer errors as XML, proxies in front of them as HTML or nothing. */
export function readError(body: Buffer): ErrorDocument {
  const root = rootOf(body)
  if (root?.name !== 'Error') return { code: '', message: '' }
  return { code: textOf(root, 'Code'), message: textOf(root, 'Message') }
}

export interface ListingPage {
  /** Whole keys as the store has them. */
  objects: { key: string; bytes: number }[]
  /** For the next page; undefined on the last one. */
  continuation: string | undefined
}

/** Undefined when the answer is no listing. https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html */
export function readListing(body: Buffer): ListingPage | undefined {
  const root = rootOf(body)
  if (root?.name !== 'ListBucketResult') return undefined
  const encoded = textOf(root, 'EncodingType') === 'url'
  const objects = childrenOf(root, 'Contents').map(entry => ({
    key: encoded ? decoded(textOf(entry, 'Key')) : textOf(entry, 'Key'),
    bytes: Number(textOf(entry, 'Size')),
  }))
  const continuation = textOf(root, 'NextContinuationToken')
  const truncated = textOf(root, 'IsTruncated') === 'true'
  if (objects.some(({ bytes }) => !Number.isSafeInteger(bytes)) || (truncated && !continuation))
    return undefined
  return { objects, continuation: truncated ? continuation : undefined }
}

/** Keys that could not be deleted, with the reason. Undefined when the answer is none to a deletion. */
export function readDeletion(body: Buffer): { key: string; code: string; message: string }[] | undefined {
  const root = rootOf(body)
  if (root?.name !== 'DeleteResult') return undefined
  return childrenOf(root, 'Error').map(entry => ({
    key: textOf(entry, 'Key'),
    code: textOf(entry, 'Code'),
    message: textOf(entry, 'Message'),
  }))
}

/** Keys have no character that means anything in XML, which is checked where they are made into paths and again here. */
export function deletionDocument(keys: readonly string[]): string {
  const objects = keys.map(key => {
    if (!isKey(key)) throw new TypeError(`${JSON.stringify(key)} is not a key`)
    return `<Object><Key>${key}</Key></Object>`
  })
  return `<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>${objects.join('')}</Delete>`
}

function rootOf(body: Buffer): XmlElement | undefined {
  try {
    return parseXml(body.toString('utf8')).root ?? undefined
  } catch {
    return undefined
  }
}

function childrenOf(parent: XmlElement, name: string): XmlElement[] {
  return parent.children.filter(
    (child): child is XmlElement => child instanceof XmlElement && child.name === name,
  )
}

function textOf(parent: XmlElement, name: string): string {
  return childrenOf(parent, name)[0]?.text ?? ''
}

/** A store that says url but sends raw keys may send a lone %. */
function decoded(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', ' '))
  } catch {
    return key
  }
}
