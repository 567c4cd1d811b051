import { createCipheriv, createDecipheriv, createHash, hkdfSync } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { crc32c } from '@node-rs/crc32'

/** A frame is stored as zstd when that is shorter; the closing frame is empty and ends every object. */
export const frameFlags = { zstd: 1, closing: 2 } as const
/** Bounds what a damaged or hostile length can make us allocate. */
export const longestFrameBytes = 16 * 1024 * 1024
/** Long enough that zstd and AES run at full speed, short enough to hand to a thread without a hitch. */
export const defaultFrameBytes = 2 * 1024 * 1024
export const tagBytes = 16

/** What every frame of one object shares. */
export interface FrameKey {
  /** 32 bytes that encrypt this object alone. */
  objectKey: Uint8Array
  /** SHA-256 of everything before the first frame. */
  headerHash: Uint8Array
}

export interface FramePlace {
  index: number
  rawBytes: number
  flags: number
}

export interface SealFrameInput extends FrameKey {
  index: number
  raw: Uint8Array
  compression: 'zstd' | 'none'
  closing: boolean
  /** Lengths of consecutive runs of the raw bytes whose CRC-32C is wanted. */
  pieces: readonly number[]
}

export interface SealedFrame {
  /** Ciphertext and tag, as they are stored one after the other. */
  parts: [Uint8Array, Uint8Array]
  flags: number
  rawBytes: number
  /** Of the stored bytes. */
  sha256: Uint8Array
  crcs: number[]
}

/** HKDF-SHA256 (RFC 5869): the salt is fresh for every object that is written, so a nonce is never used twice with a key. */
export function objectKeyOf(dataKey: Uint8Array, salt: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', dataKey, salt, 'moonyetis object v1', 32))
}

/** Compresses and encrypts (AES-256-GCM, NIST SP 800-38D) one frame, synchronously. */
export function sealFrame(input: SealFrameInput): SealedFrame {
  const { raw, objectKey } = input
  const packed = input.compression === 'zstd' && raw.length > 0 ? compress(raw) : undefined
  const flags = (packed ? frameFlags.zstd : 0) | (input.closing ? frameFlags.closing : 0)
  const place = { index: input.index, rawBytes: raw.length, flags }
  const cipher = createCipheriv('aes-256-gcm', objectKey, nonceOf(place.index))
  cipher.setAAD(associatedData(input.headerHash, place))
  const ciphertext = cipher.update(packed ?? raw)
  cipher.final()
  if (packed) release(packed)
  const tag = cipher.getAuthTag()
  const sha256 = createHash('sha256').update(ciphertext).update(tag).digest()
  return { parts: [ciphertext, tag], flags, rawBytes: raw.length, sha256, crcs: crcsOf(raw, input.pieces) }
}

/**
 * The raw bytes of a stored frame. Nothing is unpacked before the tag has proven it.
 * @throws any Error: what is stored is not what was sealed
 */
export function openFrame(key: FrameKey, place: FramePlace, stored: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key.objectKey, nonceOf(place.index))
  decipher.setAAD(associatedData(key.headerHash, place))
  decipher.setAuthTag(stored.subarray(stored.length - tagBytes))
  const packed = decipher.update(stored.subarray(0, stored.length - tagBytes))
  decipher.final()
  const isPacked = (place.flags & frameFlags.zstd) !== 0
  const raw = isPacked ? decompress(packed, place.rawBytes) : packed
  if (isPacked) release(packed)
  if (raw.length !== place.rawBytes) throw new Error('the frame is not as long as it says')
  return raw
}

// Smaller buffers may lie in a pool that others use.
const surelyOwnBytes = 256 * 1024

/**
 * Gives the memory of bytes that nobody uses any more back at once: the garbage collector would let tens of megabytes
 * of it gather in every thread. Bytes that might share their memory stay.
 */
export function release(bytes: Uint8Array): void {
  if (bytes.buffer.byteLength >= surelyOwnBytes && bytes.byteOffset === 0)
    (bytes.buffer as ArrayBuffer).transfer(0)
}

// Node's buffer for the output is 16 KiB unless told otherwise, which costs more than the compression itself.
function compress(raw: Uint8Array): Buffer | undefined {
  // ZSTD_COMPRESSBOUND (zstd.h): what incompressible input can grow to; then all of it fits one buffer.
  const bound = raw.length + (raw.length >>> 8) + 128
  const params = { [constants.ZSTD_c_compressionLevel]: 1 }
  const packed = zstdCompressSync(raw, { chunkSize: bound, params })
  if (packed.length < raw.length) return packed
  release(packed)
  return undefined
}

function decompress(packed: Buffer, rawBytes: number): Buffer {
  // One byte more than it may hold, so that a longer one is seen as such and ends there.
  return zstdDecompressSync(packed, { chunkSize: Math.max(rawBytes + 1, 64), maxOutputLength: rawBytes + 1 })
}

/** 96 bits big-endian, as SP 800-38D 8.2.1 has it for a counter. */
function nonceOf(index: number): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeUInt32BE(index, 8)
  return nonce
}

/** The header stands for repository, place, kind and facts; index, length and flags for the place within the object. */
function associatedData(headerHash: Uint8Array, { index, rawBytes, flags }: FramePlace): Buffer {
  const data = Buffer.alloc(44)
  data.set(headerHash)
  data.writeUInt32LE(index, 32)
  data.writeUInt32LE(rawBytes, 36)
  data.writeUInt32LE(flags, 40)
  return data
}

function crcsOf(raw: Uint8Array, pieces: readonly number[]): number[] {
  let offset = 0
  return pieces.map(length => {
    const piece = raw.subarray(offset, offset + length)
    offset += length
    return crc32c(piece)
  })
}
