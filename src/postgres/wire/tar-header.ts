import { wireError } from './errors.ts'

/** What of a tar header is the same for reading and writing. */
export const blockBytes = 512

export type TarType = 'file' | 'directory' | 'symlink'

/** Positions of ustar's fields (IEEE 1003.1, pax: ustar Interchange Format). */
export const field = {
  name: [0, 100],
  mode: [100, 108],
  uid: [108, 116],
  gid: [116, 124],
  size: [124, 136],
  mtime: [136, 148],
  checksum: [148, 156],
  type: [156, 157],
  link: [157, 257],
  magic: [257, 263],
  version: [263, 265],
  prefix: [345, 500],
} as const

export function headerChecksum(header: Uint8Array): number {
  const [from, to] = field.checksum
  let sum = (to - from) * 0x20
  for (let at = 0; at < blockBytes; at++) if (at < from || at >= to) sum += header[at] as number
  return sum
}

/** Zero bytes that follow so many bytes of content. */
export function paddingBytes(contentBytes: number): number {
  return (blockBytes - (contentBytes % blockBytes)) % blockBytes
}

export function tarError(offset: number, reason: string) {
  return wireError('TAR_INVALID', { offset, reason })
}
