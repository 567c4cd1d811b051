import { hkdfSync, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'

/** Encrypts objects of a repository; `bytes` never shows in a log, in JSON or in inspect. */
export interface DataKey {
  /** 32 hexadecimal characters that follow from the bytes and do not tell them; as in `keys/<id>/`. */
  readonly id: string
  /** 32 bytes. */
  readonly bytes: Buffer
}

export const dataKeyBytes = 32
const idPattern = /^[0-9a-f]{32}$/

export function newRandomDataKey(): DataKey {
  return dataKeyOf(randomBytes(dataKeyBytes))
}

/** The key of these 32 bytes, with the id that belongs to them. */
export function dataKeyOf(bytes: Uint8Array): DataKey {
  return new HiddenDataKey(Buffer.from(bytes))
}

/** HKDF-SHA256 (RFC 5869) of the key without salt, 16 bytes: the id proves which key it is and nothing else. */
export function dataKeyId(bytes: Uint8Array): string {
  return Buffer.from(hkdfSync('sha256', bytes, '', 'moonyetis data key id', 16)).toString('hex')
}

export function isDataKeyId(text: string): boolean {
  return idPattern.test(text)
}

class HiddenDataKey implements DataKey {
  readonly id: string
  readonly #bytes: Buffer

  constructor(bytes: Buffer) {
    this.id = dataKeyId(bytes)
    this.#bytes = bytes
  }

  get bytes(): Buffer {
    return this.#bytes
  }

  toJSON(): string {
    return `data key ${this.id}`
  }

  [inspect.custom](): string {
    return this.toJSON()
  }
}
