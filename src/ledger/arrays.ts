import assert from 'node:assert/strict'

/**
 * PostgreSQL arrays in binary format (array_recv: dimensions, has-null, element oid, then length and lower bound of the
 * dimension, then length-prefixed elements; src/backend/utils/adt/arrayfuncs.c). A batch of spins is some 16 arrays:
 * in binary neither side prints or parses a number. Never empty: a batch holds at least one spin.
 */
export class ArrayWriter {
  readonly #buffer: Buffer
  readonly #elementBytes: number
  #offset = headerBytes

  constructor(type: ElementType, length: number) {
    this.#elementBytes = elementTypes[type].bytes
    this.#buffer = Buffer.allocUnsafe(headerBytes + length * (4 + this.#elementBytes))
    this.#buffer.writeInt32BE(1, 0)
    this.#buffer.writeInt32BE(0, 4)
    this.#buffer.writeInt32BE(elementTypes[type].oid, 8)
    this.#buffer.writeInt32BE(length, 12)
    this.#buffer.writeInt32BE(1, 16)
  }

  bigint(value: bigint): void {
    this.#buffer.writeBigInt64BE(value, this.#next())
  }

  integer(value: number): void {
    this.#buffer.writeInt32BE(value, this.#next())
  }

  uuid(value: Uint8Array): void {
    this.#buffer.set(value, this.#next())
  }

  /** The array; every one of the promised elements must have been written. */
  finish(): Buffer {
    assert(this.#offset === this.#buffer.length, 'an array must be written to its end')
    return this.#buffer
  }

  #next(): number {
    this.#buffer.writeInt32BE(this.#elementBytes, this.#offset)
    const at = this.#offset + 4
    this.#offset = at + this.#elementBytes
    return at
  }
}

const headerBytes = 20
const elementTypes = {
  bigint: { oid: 20, bytes: 8 },
  integer: { oid: 23, bytes: 4 },
  uuid: { oid: 2950, bytes: 16 },
} as const

type ElementType = keyof typeof elementTypes

export function bigintArray(values: readonly bigint[]): Buffer {
  const writer = new ArrayWriter('bigint', values.length)
  for (const value of values) writer.bigint(value)
  return writer.finish()
}

/** Each value is 16 bytes. */
export function uuidArray(values: readonly Uint8Array[]): Buffer {
  const writer = new ArrayWriter('uuid', values.length)
  for (const value of values) writer.uuid(value)
  return writer.finish()
}

/** `{1,NULL,3}` as PostgreSQL prints a flat bigint[]; NULL or no array gives undefined elements or an empty list. */
export function parseBigints(text: string | null): Array<bigint | undefined> {
  if (text === null || text === '{}') return []
  return text
    .slice(1, -1)
    .split(',')
    .map(element => (element === 'NULL' ? undefined : BigInt(element)))
}
