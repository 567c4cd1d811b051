import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseLsn } from '#lib/lsn.ts'
import { parseHistory } from './history.ts'
import { type Meeting, planStart, startAfterGap } from './position.ts'

const at = (lsn: string) => parseLsn(lsn) as bigint
const position = (timeline: number, lsn: string) => ({ timeline, lsn: at(lsn) })
const have = (timeline: number, lsn: string, end = lsn) => ({ timeline, lsn: at(lsn), end: at(end) })

function meeting(o: Partial<Meeting>): Meeting {
  return {
    server: position(1, '0/5000100'),
    ancestors: [],
    slot: position(1, '0/4000028'),
    have: undefined,
    segmentBytes: 16 * 1024 * 1024,
    ...o,
  }
}

const onSecond = {
  server: position(2, '0/7000000'),
  ancestors: [{ timeline: 1, switchLsn: at('0/5200000') }],
  slot: position(2, '0/5200000'),
}

describe('where the stream begins', () => {
  test('a new archive begins with the segment that its slot keeps', () => {
    assert.deepEqual(planStart(meeting({})), position(1, '0/4000000'))
  })

  test('an archive goes on where its spool ends', () => {
    assert.deepEqual(planStart(meeting({ have: have(1, '0/4C00000') })), position(1, '0/4C00000'))
    assert.deepEqual(planStart(meeting({ have: have(1, '0/5000100') })), position(1, '0/5000100'))
  })

  test('after a promotion the old timeline is received to its end first', () => {
    assert.deepEqual(
      planStart(meeting({ ...onSecond, have: have(1, '0/4000000') })),
      position(1, '0/4000000'),
    )
  })

  test('an archive that holds the old timeline to its end goes on with the first segment of the next', () => {
    assert.deepEqual(
      planStart(meeting({ ...onSecond, have: have(1, '0/5200000') })),
      position(2, '0/5000000'),
    )
  })

  test('WAL that the promoted server never had does not keep the archive from following it', () => {
    assert.deepEqual(
      planStart(meeting({ ...onSecond, have: have(1, '0/9000000') })),
      position(2, '0/5000000'),
    )
  })

  test('a timeline that branched off before what is archived is followed from its beginning', () => {
    const branch = {
      server: position(4, '0/8000000'),
      ancestors: [{ timeline: 1, switchLsn: at('0/3200000') }],
    }
    assert.deepEqual(planStart(meeting({ ...branch, have: have(3, '0/9000000') })), position(4, '0/3000000'))
  })

  test('a server behind its archive is refused, on the same timeline and on an older one', () => {
    assert.throws(() => planStart(meeting({ have: have(1, '0/6000000') })), { code: 'ARCHIVE_SERVER_BEHIND' })
    assert.throws(() => planStart(meeting({ have: have(2, '0/4000000') })), { code: 'ARCHIVE_SERVER_BEHIND' })
    const unsure = have(1, '0/5000000', '0/5000200')
    assert.throws(() => planStart(meeting({ have: unsure })), { code: 'ARCHIVE_SERVER_BEHIND' })
  })

  test('after a gap the archive begins with what the slot keeps, and only if that is ahead', () => {
    const wanted = position(1, '0/2000000')
    assert.deepEqual(startAfterGap(meeting({}), wanted), position(1, '0/4000000'))
    assert.equal(startAfterGap(meeting({}), position(1, '0/4C00000')), undefined)
  })
})

test('a history file tells where its ancestors ended', () => {
  const text = "# a comment\n1\t0/5200000\tno recovery target specified\n\n3\t1/A0\tbefore '2026-11-24'\n"
  assert.deepEqual(parseHistory(Buffer.from(text)), [
    { timeline: 1, switchLsn: at('0/5200000') },
    { timeline: 3, switchLsn: at('1/A0') },
  ])
})
