// Opens one sealed object of a backup repository without the program that wrote it. Needs Node 22.15 or newer, nothing else.
//   node open-backup.mjs DATA_KEY_FILE SEALED_OBJECT OUTPUT_FILE [SIGNER]
// DATA_KEY_FILE: 32 bytes, as `age -d -i identity.txt keys/ID/FINGERPRINT.age` gives them. SIGNER: the public key of the
// recovery kit; with it the signature is checked too. backup-format.md, beside this file, explains each step.

import { createDecipheriv, createHash, createPublicKey, hkdfSync, verify } from 'node:crypto'
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { zstdDecompressSync } from 'node:zlib'

let output
process.on('uncaughtException', error => stop(`${objectFile}: ${error.message}`))
const [keyFile, objectFile, outputFile, signer] = process.argv.slice(2)
if (!outputFile) stop('usage: node open-backup.mjs DATA_KEY_FILE SEALED_OBJECT OUTPUT_FILE [SIGNER]')

const dataKey = readFileSync(keyFile)
const object = readFileSync(objectFile)
check(dataKey.length === 32, `${keyFile} does not have 32 bytes`)

// The head: magic, length of the header, header.
check(object.subarray(0, 8).toString('latin1') === 'MYSEAL01', `${objectFile} is not a sealed object`)
const headEnd = 12 + object.readUInt32LE(8)
const header = JSON.parse(object.subarray(12, headEnd).toString('utf8'))
const headerHash = sha256(object.subarray(0, headEnd))
console.error(
  `${header.object} (${header.kind}) of repository ${header.repositoryId}: ${JSON.stringify(header.facts)}`,
)
const dataKeyId = Buffer.from(hkdfSync('sha256', dataKey, '', 'moonyetis data key id', 16)).toString('hex')
check(dataKeyId === header.dataKey, `it needs the data key ${header.dataKey}, this one is ${dataKeyId}`)

// The end: number of frames, digest, signature, magic; before it the table with 44 bytes for each frame.
const end = object.subarray(object.length - 108)
check(end.subarray(100).toString('latin1') === 'MYSEALED', 'its end is missing')
const count = end.readUInt32LE(0)
const tableStart = object.length - 108 - 44 * count
check(tableStart >= headEnd, 'it is cut off')
const table = object.subarray(tableStart, object.length - 108)
const digest = sha256(headerHash, table)
check(digest.equals(end.subarray(4, 36)), 'its header or table of frames was changed')
if (signer) {
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(signer, 'base64')])
  const message = Buffer.concat([Buffer.from('moonyetis sealed object v1\n'), digest])
  const publicKey = createPublicKey({ key: der, type: 'spki', format: 'der' })
  check(verify(null, message, publicKey, end.subarray(36, 100)), 'it is not signed by that signer')
}

// The frames: AES-256-GCM, most of them zstd inside.
const objectKey = Buffer.from(
  hkdfSync('sha256', dataKey, Buffer.from(header.salt, 'base64'), 'moonyetis object v1', 32),
)
output = openSync(outputFile, 'wx', 0o600)
let start = headEnd
for (let index = 0; index < count; index++) {
  const row = table.subarray(44 * index, 44 * index + 44)
  const [stored, rawBytes, flags] = [row.readUInt32LE(0), row.readUInt32LE(4), row.readUInt32LE(8)]
  const frame = object.subarray(start, start + stored)
  start += stored
  check(sha256(frame).equals(row.subarray(12)), `frame ${index} was changed`)
  const nonce = Buffer.alloc(12)
  nonce.writeUInt32BE(index, 8)
  const place = Buffer.alloc(12)
  place.writeUInt32LE(index, 0)
  place.writeUInt32LE(rawBytes, 4)
  place.writeUInt32LE(flags, 8)
  const decipher = createDecipheriv('aes-256-gcm', objectKey, nonce)
  decipher.setAAD(Buffer.concat([headerHash, place]))
  decipher.setAuthTag(frame.subarray(frame.length - 16))
  const plain = Buffer.concat([decipher.update(frame.subarray(0, frame.length - 16)), decipher.final()])
  const raw = flags & 1 ? zstdDecompressSync(plain, { maxOutputLength: rawBytes + 1 }) : plain
  check(raw.length === rawBytes, `frame ${index} is not as long as it says`)
  writeSync(output, raw)
}
closeSync(output)
check(start === tableStart, 'its frames do not add up')

function sha256(...parts) {
  return parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
}

function check(isTrue, otherwise) {
  if (!isTrue) stop(`${objectFile}: ${otherwise}`)
}

/** What was written so far is proven only frame by frame, so it goes. */
function stop(reason) {
  if (output !== undefined) rmSync(outputFile, { force: true })
  console.error(`error: ${reason}`)
  process.exit(1)
}
