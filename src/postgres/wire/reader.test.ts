import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '#lib/errors.ts'
import { MessageReader, mostMessageBytes } from './reader.ts'
import { cut, message } from './testing.ts'

/** What a reader hands over, pieces of one CopyData joined. */
async function read(chunks: Buffer[], wait = false): Promise<string[]> {
  const handed: string[] = []
  let pieces: Buffer[] = []
  const after = () => (wait ? new Promise<void>(resolve => setImmediate(resolve)) : undefined)
  const reader = new MessageReader({
    message: (type, body) => {
      handed.push(`${String.fromCharCode(type)} ${body.toString('hex')}`)
      return after()
    },
    copyData: (piece, first, last) => {
      if (first) pieces = []
      // Bytes are used again after the call.
      pieces.push(Buffer.from(piece))
      if (last) handed.push(`d ${Buffer.concat(pieces).toString('hex')}`)
      return after()
    },
  })
  for (const chunk of chunks) {
    const reused = Buffer.from(chunk)
    await reader.push(reused)
    reused.fill(0xee)
  }
  return handed
}

describe('MessageReader', () => {
  const types = ['A', 'C', 'D', 'E', 'H', 'N', 'S', 'T', 'W', 'Z', 'c', 'd'] as const
  const messages = fc.array(fc.tuple(fc.constantFrom(...types), fc.uint8Array({ maxLength: 60 })), {
    minLength: 1,
    maxLength: 12,
  })

  test('hands over the same messages wherever the bytes are cut and whether or not it has to wait', async () => {
    const places = fc.array(fc.nat(), { maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(messages, places, fc.boolean(), async (list, cuts, wait) => {
        const bytes = Buffer.concat(list.map(([type, body]) => message.make(type, body)))
        const wanted = list.map(([type, body]) => `${type} ${Buffer.from(body).toString('hex')}`)
        assert.deepEqual(await read(cut(bytes, cuts), wait), wanted)
      }),
      { numRuns: 200 },
    )
  })

  test('hands CopyData on piece by piece, without gathering it', () => {
    const pieces: number[] = []
    const reader = new MessageReader({
      message: () => assert.fail('no message was sent'),
      copyData: piece => void pieces.push(piece.length),
    })
    const bytes = message.copyData(Buffer.alloc(100))
    reader.push(bytes.subarray(0, 45))
    reader.push(bytes.subarray(45))
    assert.deepEqual(pieces, [40, 60])
  })

  const refused: Array<[what: string, bytes: Buffer, words: RegExp]> = [
    ['a type that no server sends', message.make('?'), /unknown type 63/],
    ['a length that does not even count itself', Buffer.from([0x5a, 0, 0, 0, 3]), /message of 3 bytes/],
    ['a message beyond the limit', header('D', mostMessageBytes + 1), /message of 16777217 bytes/],
    ['copy data beyond the limit', header('d', 0xffffffff), /message of 4294967295 bytes/],
  ]
  for (const [what, bytes, words] of refused) {
    test(`refuses ${what}, one byte at a time too`, async () => {
      for (const chunks of [[bytes], [...bytes].map(byte => Buffer.from([byte]))])
        await assert.rejects(read(chunks), (error: unknown) => {
          assert(error instanceof Failure && error.code === 'WIRE_PROTOCOL')
          assert.match(error.message, words)
          return true
        })
    })
  }

  test('hands over nothing more after it was closed', async () => {
    let handed = 0
    const reader = new MessageReader({
      message: () => {
        handed++
        reader.close()
      },
      copyData: () => {},
    })
    reader.push(Buffer.concat([message.ready(), message.ready()]))
    reader.push(message.ready())
    assert.equal(handed, 1)
  })
})

function header(type: string, length: number): Buffer {
  const bytes = Buffer.alloc(5)
  bytes.write(type, 'latin1')
  bytes.writeUInt32BE(length, 1)
  return bytes
}
