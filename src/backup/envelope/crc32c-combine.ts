// A CRC is linear over GF(2): appending n zero bytes to A is a 32x32 bit matrix applied to its CRC (zlib, crc32.c,
// crc32_combine). Matrices for 1, 2, 4, ... bytes are made once; a length uses those of its binary digits.

/** Castagnoli's polynomial 0x1EDC6F41, bits reversed (RFC 3720, appendix B.4). */
const polynomial = 0x82f63b78
type Matrix = Uint32Array

/** CRC-32C of A followed by B, from those of A and of B. `lengthOfB` is in bytes. */
export function crc32cCombine(a: number, b: number, lengthOfB: number): number {
  let crc = a
  let power = 0
  for (let rest = lengthOfB; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) crc = times(zeroBytes(power), crc)
    power++
  }
  return (crc ^ b) >>> 0
}

const powers: Matrix[] = []

/** Appends 2^power zero bytes. */
function zeroBytes(power: number): Matrix {
  while (powers.length <= power)
    powers.push(powers.length === 0 ? oneZeroByte() : squared(powers.at(-1) as Matrix))
  return powers[power] as Matrix
}

function oneZeroByte(): Matrix {
  let matrix: Matrix = Uint32Array.from({ length: 32 }, (_, bit) => (bit === 0 ? polynomial : 2 ** (bit - 1)))
  // From one bit to two, four and eight.
  for (let doubled = 0; doubled < 3; doubled++) matrix = squared(matrix)
  return matrix
}

function squared(matrix: Matrix): Matrix {
  return matrix.map(column => times(matrix, column))
}

function times(matrix: Matrix, vector: number): number {
  let sum = 0
  for (let bit = 0, rest = vector >>> 0; rest !== 0; bit++, rest >>>= 1)
    if (rest & 1) sum ^= matrix[bit] as number
  return sum >>> 0
}
