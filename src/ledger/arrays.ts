/**
 * PostgreSQL arrays in binary format (array_recv: dimensions, has-null, element oid, then length and lower bound of the
 * dimension, then length-prefixed elements; src/backend/utils/adt/arrayfuncs.c). A batch of spins is some 16 arrays:
 * in binary neither side prints or parses a number.
 */
const headerBytes = 20
const int8 = 20
const int4 = 23
const uuid = 2950

export function bigintArray(values: readonly bigint[]): Buffer {
  const buffer = header(int8, values.length, 8)
  let offset = headerBytes
  for (const value of values) {
    buffer.writeInt32BE(8, offset)
    buffer.writeBigInt64BE(value, offset + 4)
    offset += 12
  }
  return buffer
}

export function integerArray(values: readonly number[]): Buffer {
  const buffer = header(int4, values.length, 4)
  let offset = headerBytes
  for (const value of values) {
    buffer.writeInt32BE(4, offset)
    buffer.writeInt32BE(value, offset + 4)
    offset += 8
  }
  return buffer
}

/** Each value is 16 bytes. */
export function uuidArray(values: readonly Uint8Array[]): Buffer {
  const buffer = header(uuid, values.length, 16)
  let offset = headerBytes
  for (const value of values) {
    buffer.writeInt32BE(16, offset)
    buffer.set(value, offset + 4)
    offset += 20
  }
  return buffer
}

function header(elementType: number, length: number, elementBytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(headerBytes + length * (4 + elementBytes))
  buffer.writeInt32BE(length === 0 ? 0 : 1, 0)
  buffer.writeInt32BE(0, 4)
  buffer.writeInt32BE(elementType, 8)
  buffer.writeInt32BE(length, 12)
  buffer.writeInt32BE(1, 16)
  return length === 0 ? buffer.subarray(0, 12) : buffer
}

/** `{1,NULL,3}` as PostgreSQL prints a flat bigint[]; NULL or no array gives undefined elements or an empty list. */
export function parseBigints(text: string | null): Array<bigint | undefined> {
  if (text === null || text === '{}') return []
  return text
    .slice(1, -1)
    .split(',')
    .map(element => (element === 'NULL' ? undefined : BigInt(element)))
}
