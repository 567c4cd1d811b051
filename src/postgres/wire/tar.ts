import { decodePath } from './paths.ts'
import { blockBytes, field, headerChecksum, paddingBytes, type TarType, tarError } from './tar-header.ts'

export type { TarType } from './tar-header.ts'

export interface TarEntry {
  /** Relative and plain: no `./`, no trailing slash; `.` is the root itself. */
  path: string
  type: TarType
  bytes: number
  /** Permission bits. */
  mode: number
  /** Where a symlink points, as written. */
  link?: string
  uid: number
  gid: number
  /** Seconds since 1970. */
  modifiedAt: number
  /** In the archive: of the first header block that belongs to the entry, and of its first content byte. */
  headerOffset: number
  contentOffset: number
}

/** Called while push() runs; the bytes are parts of what was pushed. */
export interface TarHandler {
  entry(entry: TarEntry): void
  data(bytes: Buffer): void
  /** The entry's last byte was handed over. */
  done?(): void
}

// Paths end at 4096 bytes on Linux; a pax header holds a few of them.
const mostExtensionBytes = 64 * 1024
const types: Record<string, TarType | undefined> = {
  '0': 'file',
  '\0': 'file',
  '5': 'directory',
  '2': 'symlink',
}

/** What an extension header says about the entry after it. */
interface Extension {
  path?: string
  link?: string
  bytes?: number
  uid?: number
  gid?: number
  modifiedAt?: number
}

/**
 * Reads an archive as it arrives, in pieces of any size: ustar with GNU or pax extensions, as PostgreSQL, tar and
 * tarHeader() write it. @throws TAR_INVALID for a damaged header, a path that leaves the archive, a type of entry that
 * no backup has, and by end() for an archive that is not complete.
 */
export class TarReader {
  readonly #handler: TarHandler
  readonly #block = Buffer.alloc(blockBytes)
  #blockFilled = 0
  /** Bytes of the archive that were handled. */
  #offset = 0
  #content = 0
  #padding = 0
  #inEntry = false
  /** Content of an extension header; undefined outside one. */
  #extensionType = ''
  #extensionParts: Buffer[] = []
  #extension: Extension = {}
  #headerOffset: number | undefined
  #zeroBlocks = 0

  constructor(handler: TarHandler) {
    this.#handler = handler
  }

  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const taken = this.#step(bytes.subarray(at))
      this.#offset += taken
      at += taken
    }
  }

  /** Nothing follows. @throws TAR_INVALID when something should have */
  end(): void {
    if (this.#zeroBlocks < 2 || this.#blockFilled > 0) throw tarError(this.#offset, 'it ends too early')
  }

  /** Handles some of `bytes` (at least one) and says how many. */
  #step(bytes: Buffer): number {
    if (this.#content > 0) return this.#takeContent(bytes.subarray(0, this.#content))
    if (this.#padding > 0) {
      const taken = Math.min(this.#padding, bytes.length)
      this.#padding -= taken
      return taken
    }
    return this.#takeHeader(bytes)
  }

  #takeContent(bytes: Buffer): number {
    this.#content -= bytes.length
    if (this.#inEntry) this.#handler.data(bytes)
    else this.#extensionParts.push(Buffer.from(bytes))
    if (this.#content === 0) this.#contentEnds()
    return bytes.length
  }

  #contentEnds(): void {
    if (this.#inEntry) {
      this.#inEntry = false
      this.#handler.done?.()
      return
    }
    const content = Buffer.concat(this.#extensionParts)
    this.#extensionParts = []
    this.#extend(content)
  }

  #takeHeader(bytes: Buffer): number {
    if (this.#blockFilled === 0 && bytes.length >= blockBytes) {
      this.#header(bytes.subarray(0, blockBytes), this.#offset)
      return blockBytes
    }
    const taken = Math.min(blockBytes - this.#blockFilled, bytes.length)
    bytes.copy(this.#block, this.#blockFilled, 0, taken)
    this.#blockFilled += taken
    if (this.#blockFilled < blockBytes) return taken
    this.#blockFilled = 0
    this.#header(this.#block, this.#offset + taken - blockBytes)
    return taken
  }

  #header(block: Buffer, offset: number): void {
    if (block.every(byte => byte === 0)) {
      if (this.#headerOffset !== undefined) throw tarError(offset, 'an extension header without an entry')
      this.#zeroBlocks++
      return
    }
    if (this.#zeroBlocks > 0) throw tarError(offset, 'something follows its end')
    if (readNumber(block, 'checksum', offset) !== headerChecksum(block))
      throw tarError(offset, 'the checksum of a header does not fit')
    const type = String.fromCharCode(block[field.type[0]] as number)
    this.#headerOffset ??= offset
    if (type === 'L' || type === 'K' || type === 'x') this.#extensionBegins(type, block, offset)
    else this.#entry(types[type], block, offset)
  }

  #extensionBegins(type: string, block: Buffer, offset: number): void {
    const bytes = readNumber(block, 'size', offset)
    if (bytes === 0 || bytes > mostExtensionBytes)
      throw tarError(offset, `an extension header of ${bytes} bytes`)
    this.#extensionType = type
    this.#content = bytes
    this.#padding = paddingBytes(bytes)
  }

  #extend(content: Buffer): void {
    if (this.#extensionType === 'x') Object.assign(this.#extension, readPax(content, this.#offset))
    else if (this.#extensionType === 'L') this.#extension.path = decodePath(untilZero(content))
    else this.#extension.link = decodePath(untilZero(content))
  }

  #entry(type: TarType | undefined, block: Buffer, offset: number): void {
    if (!type) throw tarError(offset, `an entry of type ${block[field.type[0]]}`)
    const extension = this.#extension
    const bytes = extension.bytes ?? readNumber(block, 'size', offset)
    if (type !== 'file' && bytes > 0) throw tarError(offset, `a ${type} with content`)
    const entry: TarEntry = {
      path: safePath(extension.path ?? namePath(block), offset),
      type,
      bytes,
      mode: readNumber(block, 'mode', offset) & 0o7777,
      ...(type === 'symlink' ? { link: linkOf(extension.link ?? textField(block, 'link'), offset) } : {}),
      uid: extension.uid ?? readNumber(block, 'uid', offset),
      gid: extension.gid ?? readNumber(block, 'gid', offset),
      modifiedAt: extension.modifiedAt ?? readNumber(block, 'mtime', offset),
      headerOffset: this.#headerOffset ?? offset,
      contentOffset: offset + blockBytes,
    }
    this.#extension = {}
    this.#headerOffset = undefined
    this.#content = bytes
    this.#padding = paddingBytes(bytes)
    this.#inEntry = bytes > 0
    this.#handler.entry(entry)
    if (bytes === 0) this.#handler.done?.()
  }
}

/** Path of an entry as everything that writes files may use it. */
function safePath(path: string, offset: number): string {
  const parts = path.split('/').filter(part => part !== '' && part !== '.')
  if (path === '' || path.startsWith('/') || path.includes('\0') || parts.includes('..'))
    throw tarError(offset, `the path ${JSON.stringify(path)} leads out of the archive`)
  return parts.join('/') || '.'
}

function linkOf(link: string, offset: number): string {
  if (link === '') throw tarError(offset, 'a symlink to nowhere')
  return link
}

function namePath(block: Buffer): string {
  const name = textField(block, 'name')
  // Only ustar proper has a prefix there; GNU tar keeps other things in it.
  const isUstar = block.toString('latin1', 257, 265) === 'ustar\x0000'
  const prefix = isUstar ? textField(block, 'prefix') : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function textField(block: Buffer, name: 'name' | 'link' | 'prefix'): string {
  return decodePath(untilZero(block.subarray(...field[name])))
}

function untilZero(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end === -1 ? bytes : bytes.subarray(0, end)
}

type NumberField = 'mode' | 'uid' | 'gid' | 'size' | 'mtime' | 'checksum'

/** Octal digits, or GNU's base 256 when the first bit is set. */
function readNumber(block: Buffer, name: NumberField, offset: number): number {
  const bytes = block.subarray(...field[name])
  const first = bytes[0] as number
  if (first === 0x80) return safeInteger(BigInt(`0x${bytes.toString('hex', 1)}`), name, offset)
  // Negative: times before 1970.
  if (first === 0xff && name === 'mtime') return 0
  const digits = bytes.toString('latin1').replace(/^ +|[ \0]+$/g, '')
  if (!/^[0-7]*$/.test(digits)) throw tarError(offset, `a ${name} that is no number`)
  return Number.parseInt(digits || '0', 8)
}

function safeInteger(value: bigint, name: string, offset: number): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw tarError(offset, `a ${name} beyond all bounds`)
  return Number(value)
}

/** Records `LENGTH KEY=VALUE\n`, the length counting itself. Keys that we do not use are left. */
function readPax(content: Buffer, offset: number): Extension {
  const extension: Extension = {}
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(0x20, at)
    const length = space === -1 ? Number.NaN : Number(content.toString('latin1', at, space))
    const equals = content.indexOf(0x3d, space)
    const end = at + length
    const isWhole = Number.isSafeInteger(length) && equals > space && equals < end && end <= content.length
    if (!isWhole || content[end - 1] !== 0x0a) throw tarError(offset, 'a pax header that is not understood')
    const key = content.toString('utf8', space + 1, equals)
    setPax(extension, key, content.subarray(equals + 1, end - 1), offset)
    at = end
  }
  return extension
}

function setPax(extension: Extension, key: string, value: Buffer, offset: number): void {
  // Its content would be taken for the file's.
  if (key.startsWith('GNU.sparse')) throw tarError(offset, 'a sparse file')
  if (key === 'path') extension.path = decodePath(value)
  if (key === 'linkpath') extension.link = decodePath(value)
  if (key === 'size') extension.bytes = paxInteger(value, offset)
  if (key === 'uid') extension.uid = paxInteger(value, offset)
  if (key === 'gid') extension.gid = paxInteger(value, offset)
  if (key === 'mtime') extension.modifiedAt = Math.max(0, Math.floor(Number(value.toString('latin1')) || 0))
}

function paxInteger(value: Buffer, offset: number): number {
  const text = value.toString('latin1')
  const number = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number))
    throw tarError(offset, 'a pax header with a strange number')
  return number
}
