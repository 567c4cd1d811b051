import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatForPeople, isTrouble, parseLogLine } from './log-line.ts'

const fallback = { level: 'warn', time: '2026-01-02T03:04:05.678Z' }

test('a log line becomes one short line for people and stays as it is for the file', () => {
  const json =
    '{"level":"info","time":"2026-01-02T10:20:30.456Z","role":"serve","pid":7,"msg":"pool opened","size":10}'
  const line = parseLogLine('serve', json, fallback)
  assert.equal(line.json, json)
  assert.equal(formatForPeople(line), 'serve     | 10:20:30 pool opened  size=10')
  assert.equal(isTrouble(line), false)
})

test('trouble shows its level and its cause', () => {
  const json =
    '{"level":"error","time":"2026-01-02T10:20:30.456Z","msg":"pool lost","err":{"message":"gone","stack":"at x"}}'
  const line = parseLogLine('serve', json, fallback)
  assert.equal(formatForPeople(line), 'serve     | 10:20:30 ERROR pool lost  err=gone')
  assert.equal(isTrouble(line), true)
})

test('plain text becomes a log line of the given level', () => {
  const line = parseLogLine('serve', '(node:7) Warning: hot', fallback)
  assert.deepEqual(JSON.parse(line.json), { ...fallback, role: 'serve', msg: '(node:7) Warning: hot' })
  assert.equal(formatForPeople(line), 'serve     | 03:04:05 WARN (node:7) Warning: hot')
})

test('broken or foreign JSON is plain text', () => {
  for (const text of ['{"level":', '{}', '{"msg":7}', '[1]', 'null']) {
    assert.equal(parseLogLine('serve', text, fallback).message, text)
  }
})
