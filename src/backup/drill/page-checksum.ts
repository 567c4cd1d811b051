/** Bytes of a page in every build that we run. */
export const pageBytes = 8192

const sums = 32
const words = pageBytes / 4
const prime = 16_777_619
const checksumAt = 8
const upperAt = 14
// checksum_impl.h, checksumBaseOffsets.
const offsets = new Uint32Array([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
])

/**
 * Whether a page of a relation carries the checksum of its content (PostgreSQL's checksum_impl.h, pg_checksum_page). A
 * page that was never used has none. `block` counts from the begin of the relation. Little-endian machines only.
 */
export function hasSoundChecksum(page: Buffer, block: number): boolean {
  if (page.readUInt16LE(upperAt) === 0) return isUnused(page)
  return page.readUInt16LE(checksumAt) === pageChecksum(page, block)
}

/** What pd_checksum should be; the field itself counts as zero. */
function pageChecksum(page: Buffer, block: number): number {
  const content = wordsOf(page)
  // pd_checksum is the lower half of the third word.
  const third = (content[2] as number) & 0xffff0000
  const state = Uint32Array.from(offsets)
  for (let at = 0; at < words; at += sums) {
    for (let lane = 0; lane < sums; lane++) {
      const word = at + lane === 2 ? third : (content[at + lane] as number)
      const mixed = (state[lane] as number) ^ word
      state[lane] = Math.imul(mixed, prime) ^ (mixed >>> 17)
    }
  }
  let result = 0
  for (let lane = 0; lane < sums; lane++) result ^= rounds(state[lane] as number)
  return (((result ^ block) >>> 0) % 65_535) + 1
}

/** Two more rounds of zeros mix the last words in. */
function rounds(sum: number): number {
  const once = Math.imul(sum, prime) ^ (sum >>> 17)
  return Math.imul(once, prime) ^ (once >>> 17)
}

function wordsOf(page: Buffer): Uint32Array {
  const aligned = page.byteOffset % 4 === 0 ? page : Buffer.from(page)
  return new Uint32Array(aligned.buffer, aligned.byteOffset, words)
}

function isUnused(page: Buffer): boolean {
  return page.every(byte => byte === 0)
}
