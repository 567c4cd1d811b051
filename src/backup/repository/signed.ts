import { type KeyObject, sign, verify } from 'node:crypto'
import { requireSound } from '../envelope/damage.ts'
import { formatVersion } from '../model.ts'

/*
 * {"body":<JSON>,"signature":"<88 characters of base64>"} and a line break. The signature is over the bytes of the body
 * as they stand there, so that nobody needs a canonical form of JSON; repository and key keep it in its place.
 */
const begin = Buffer.from('{"body":')
const middle = Buffer.from(',"signature":"')
const end = Buffer.from('"}\n')
const signatureCharacters = 88
const afterBody = middle.length + signatureCharacters + end.length

export interface DocumentPlace {
  repositoryId: string
  key: string
}

export function encodeSigned(place: DocumentPlace, body: object, signingKey: KeyObject): Buffer {
  const bytes = Buffer.from(JSON.stringify(body))
  const signature = sign(null, message(place, bytes), signingKey).toString('base64')
  return Buffer.concat([begin, bytes, middle, Buffer.from(signature), end])
}

/** The body, which the signer wrote to this place. @throws Damage */
export function decodeSigned(bytes: Buffer, place: DocumentPlace, signer: KeyObject): unknown {
  const { body, signature } = split(bytes)
  requireSound(
    verify(null, message(place, body), signer, signature),
    'it is not signed by the signer for this place',
  )
  const value = parse(body)
  const { format, repositoryId } = value as { format?: unknown; repositoryId?: unknown }
  requireSound(!(Number(format) > formatVersion), 'it is of a newer format than this version reads')
  requireSound(
    repositoryId === undefined || repositoryId === place.repositoryId,
    'it belongs to another repository',
  )
  return value
}

/** The body before anything is proven: only to learn who claims to have signed it. @throws Damage */
export function peekSigned(bytes: Buffer): unknown {
  return parse(split(bytes).body)
}

function split(bytes: Buffer): { body: Buffer; signature: Buffer } {
  const bodyEnd = bytes.length - afterBody
  const text = bytes.subarray(bodyEnd + middle.length, bytes.length - end.length).toString('latin1')
  const signature = Buffer.from(text, 'base64')
  requireSound(
    bodyEnd > begin.length &&
      bytes.subarray(0, begin.length).equals(begin) &&
      bytes.subarray(bodyEnd, bodyEnd + middle.length).equals(middle) &&
      bytes.subarray(bytes.length - end.length).equals(end) &&
      signature.toString('base64') === text,
    'it is not a signed document',
  )
  return { body: bytes.subarray(begin.length, bodyEnd), signature }
}

function message({ repositoryId, key }: DocumentPlace, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`moonyetis signed document v1\n${repositoryId}\n${key}\n`), body])
}

function parse(body: Buffer): object {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    // Said below.
  }
  requireSound(typeof value === 'object' && value !== null, 'its body is no JSON object')
  return value
}
