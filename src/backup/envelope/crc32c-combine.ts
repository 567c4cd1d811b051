/** CRC-32C of A followed by B, from those of A and of B. */
export function crc32cCombine(_a: number, _b: number, _lengthOfB: number): number {
  throw new Error('being built')
}
