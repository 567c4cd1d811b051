import { blockBytes, field, headerChecksum, paddingBytes, type TarType } from './tar-header.ts'

export interface NewTarEntry {
  /** Relative, with slashes, without `..`. */
  path: string
  type: TarType
  /** Of a file's content. */
  bytes?: number
  mode: number
  uid: number
  gid: number
  /** Seconds since 1970; fractions are cut. */
  modifiedAt: number
  link?: string
}

/** Two zero blocks. */
export const tarEnd = Buffer.alloc(2 * blockBytes)

/** What comes before the content of an entry: a ustar header, after a pax header for what does not fit into one. */
export function tarHeader(entry: NewTarEntry): Buffer {
  const path = entry.type === 'directory' ? `${entry.path}/` : entry.path
  if (entry.path === '' || path.startsWith('/') || path.split('/').includes('..') || path.includes('\0'))
    throw new TypeError(`${JSON.stringify(entry.path)} is no path for an archive`)
  const bytes = entry.type === 'file' ? (entry.bytes ?? 0) : 0
  const modifiedAt = Math.max(0, Math.trunc(entry.modifiedAt))
  const { mode, uid, gid, link = '' } = entry
  const numbers = { mode: mode & 0o7777, uid, gid, size: bytes, mtime: modifiedAt }
  const beyond = paxRecords({ path, linkpath: link, uid, gid, size: bytes, mtime: modifiedAt })
  const header = block({ path, link, numbers, type: typeFlag[entry.type] })
  if (beyond.length === 0) return header
  // Old programs unpack it as a file of that name.
  const name = `PaxHeaders/${path.slice(-40)}`
  const own = { mode: 0o644, uid: 0, gid: 0, size: beyond.length, mtime: modifiedAt }
  const extension = block({ path: name, link: '', numbers: own, type: 'x' })
  return Buffer.concat([extension, beyond, Buffer.alloc(paddingBytes(beyond.length)), header])
}

/** What comes after the content of an entry. */
export function tarPadding(contentBytes: number): Buffer {
  return Buffer.alloc(paddingBytes(contentBytes))
}

const typeFlag: Record<TarType, string> = { file: '0', directory: '5', symlink: '2' }
/** Octal digits that a field has room for, beside its final zero. */
const digits = { mode: 7, uid: 7, gid: 7, size: 11, mtime: 11 } as const

type Numbers = Record<keyof typeof digits, number>

function block(o: { path: string; link: string; numbers: Numbers; type: string }): Buffer {
  const header = Buffer.alloc(blockBytes)
  Buffer.from(o.path).copy(header, field.name[0], 0, 100)
  Buffer.from(o.link).copy(header, field.link[0], 0, 100)
  for (const [name, value] of Object.entries(o.numbers) as [keyof Numbers, number][])
    header.write(octal(fits(name, value) ? value : 0, digits[name]), field[name][0], 'latin1')
  header.write(o.type, field.type[0], 'latin1')
  header.write('ustar\x0000', field.magic[0], 'latin1')
  header.write(`${octal(headerChecksum(header), 6)}\0 `, field.checksum[0], 'latin1')
  return header
}

function octal(value: number, length: number): string {
  return value.toString(8).padStart(length, '0')
}

function fits(name: keyof Numbers, value: number): boolean {
  return value < 8 ** digits[name]
}

/** Records for the values that ustar's fields cannot hold; empty when all fit. */
function paxRecords(o: {
  path: string
  linkpath: string
  uid: number
  gid: number
  size: number
  mtime: number
}): Buffer {
  const records: string[] = []
  for (const key of ['path', 'linkpath'] as const)
    if (Buffer.byteLength(o[key]) > 100) records.push(paxRecord(key, o[key]))
  for (const key of ['uid', 'gid', 'size', 'mtime'] as const)
    if (!fits(key, o[key])) records.push(paxRecord(key, String(o[key])))
  return Buffer.from(records.join(''))
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  const restBytes = Buffer.byteLength(rest)
  let length = restBytes + 1
  // The length counts its own digits, which may make it a digit longer.
  while (restBytes + String(length).length !== length) length = restBytes + String(length).length
  return `${length}${rest}`
}
