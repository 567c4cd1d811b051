import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '#lib/errors.ts'
import { describeTarget, parseRequest, type RestoreTarget } from './target.ts'

function time(text: string, timezone = 'UTC'): RestoreTarget & { kind: 'time' } {
  const { target } = parseRequest({ time: text }, timezone)
  assert.equal(target.kind, 'time')
  return target as RestoreTarget & { kind: 'time' }
}

const refused = (options: Parameters<typeof parseRequest>[0], reason: RegExp, timezone = 'UTC') =>
  assert.throws(
    () => parseRequest(options, timezone),
    (error: unknown) =>
      error instanceof Failure && error.code === 'RESTORE_TARGET_WRONG' && reason.test(error.message),
  )

test('a time keeps its microseconds and becomes UTC', () => {
  const { text, at } = time('2026-11-24T14:30:01.123456+05:30')
  assert.equal(text, '2026-11-24 09:00:01.123456+00')
  assert.equal(at.toISOString(), '2026-11-24T09:00:01.123Z')
  assert.equal(time('2026-11-24 14:30-08').text, '2026-11-24 22:30:00.000000+00')
  assert.equal(time('2026-11-24').text, '2026-11-24 00:00:00.000000+00')
})

test('a time without an offset is one of the time zone of the configuration', () => {
  assert.equal(time('2026-07-01 12:00', 'Europe/Madrid').text, '2026-07-01 10:00:00.000000+00')
  assert.equal(time('2026-12-01 12:00', 'Europe/Madrid').text, '2026-12-01 11:00:00.000000+00')
  assert.equal(time('2026-12-01 12:00Z', 'Europe/Madrid').text, '2026-12-01 12:00:00.000000+00')
})

test('the hour that a change of clocks repeats or leaves out needs its offset written', () => {
  refused({ time: '2026-10-25 02:30' }, /comes twice in Europe\/Madrid/, 'Europe/Madrid')
  refused({ time: '2026-03-29 02:30' }, /does not exist in Europe\/Madrid/, 'Europe/Madrid')
  assert.equal(time('2026-10-25 02:30+02', 'Europe/Madrid').text, '2026-10-25 00:30:00.000000+00')
})

test('what is no target is refused with how one looks', () => {
  for (const text of ['yesterday', '2026-02-30', '2026-13-01', '2026-11-24 25:00', '24.11.2026']) {
    refused({ time: text }, /no target of a restore/)
  }
  refused({ lsn: '5B000028' }, /an LSN looks like/)
  refused({ lsn: '0/1', time: '2026-11-24' }, /--time and --lsn is no target/)
})

test('no target at all is latest', () => {
  assert.deepEqual(parseRequest({ id: 'a' }, 'UTC'), { target: { kind: 'latest' }, backupId: 'a' })
  assert.equal(describeTarget(parseRequest({ lsn: '0/5b000028' }, 'UTC').target), 'LSN 0/5B000028')
  assert.equal(describeTarget(time('2026-11-24T10:00Z')), 'time 2026-11-24T10:00:00.000000Z')
})
