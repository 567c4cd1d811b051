import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LineSplitter } from './lines.ts'

function split(...chunks: (string | Uint8Array)[]): string[] {
  const lines: string[] = []
  const splitter = new LineSplitter(line => lines.push(line))
  for (const chunk of chunks) splitter.push(Buffer.from(chunk as string))
  splitter.end()
  return lines
}

test('lines come whole whatever the chunks are', () => {
  assert.deepEqual(split('on', 'e\ntw', 'o\r\n\n', 'three'), ['one', 'two', 'three'])
})

test('a character that is cut by a chunk stays whole', () => {
  const bytes = Buffer.from('żółw\n')
  assert.deepEqual(split(bytes.subarray(0, 1), bytes.subarray(1, 4), bytes.subarray(4)), ['żółw'])
})

test('a line without end cannot fill the memory', () => {
  const lines = split('x'.repeat(200_000), 'y\n', 'next\n')
  assert.ok(lines.every(line => line.length <= 64 * 1024))
  assert.equal(lines.at(-1), 'next')
})
