import assert from 'node:assert/strict'

// S3 takes 1024 bytes for prefix and key; file systems 255 for one name.
const longestKey = 512
const longestName = 200
const name = /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/

/** No empty name and none that begins with a dot, so that neither `..` nor a store's own files can be meant. */
export function isKey(key: string): boolean {
  return (
    key.length <= longestKey && key.split('/').every(part => part.length <= longestName && name.test(part))
  )
}

/** Keys are made by the program, never by people: a wrong one is a mistake in the code. */
export function assertKey(key: string): void {
  assert(isKey(key), `storage: ${JSON.stringify(key)} is not a key`)
}

/** A prefix is the beginning of a key, the empty one included. */
export function assertPrefix(prefix: string): void {
  const whole = prefix === '' || prefix.endsWith('/') ? `${prefix}x` : prefix
  assert(isKey(whole), `storage: ${JSON.stringify(prefix)} is not the beginning of a key`)
}

/** Byte order: keys are ASCII, where the order of UTF-16 code units is the order of bytes. */
export function compareKeys(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}

// The contract's 64 MiB and what sealing adds, with room; what is larger would not fit the memory that is planned for it.
const largestObjectBytes = 80 * 1024 * 1024

/** Bytes of all parts. */
export function sizeOf(key: string, data: readonly Uint8Array[]): number {
  const bytes = data.reduce((sum, part) => sum + part.byteLength, 0)
  assert(bytes <= largestObjectBytes, `storage: ${key} has ${bytes} bytes, more than an object may have`)
  return bytes
}
