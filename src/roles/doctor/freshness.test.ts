import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ageText } from './check.ts'
import { judgeFreshness } from './freshness.ts'

const now = new Date('2026-11-24T12:00:00Z')
const ago = (hours: number) => new Date(now.getTime() - hours * 3_600_000)
const daily = { name: 'backup', pattern: '0 2 * * *', timezone: 'UTC' } as const
const never = { ...daily, pattern: '' }
const common = { name: 'backup', schedule: daily, mend: 'make one' }

test('what the schedule promises is judged by its own turn, with time for the run', () => {
  assert.deepEqual(judgeFreshness({ ...common, lastAt: ago(25) }, now), {
    name: 'backup',
    ok: true,
    seen: '25 h ago',
    mend: 'make one',
  })
  assert.equal(judgeFreshness({ ...common, lastAt: ago(27) }, now).ok, false)
  const weekly = { ...daily, pattern: '0 4 * * 0' }
  assert.equal(judgeFreshness({ ...common, schedule: weekly, lastAt: ago(6 * 24) }, now).ok, true)
  assert.equal(judgeFreshness({ ...common, schedule: weekly, lastAt: ago(8 * 24) }, now).ok, false)
})

test('the last one failed is told whatever its age', () => {
  const check = judgeFreshness({ ...common, lastAt: ago(1), lastOk: false }, now)
  assert.deepEqual([check.ok, check.seen], [false, 'the last one failed 60 min ago'])
})

test('before the first one there is time, and before the set-up nothing is missing', () => {
  assert.equal(judgeFreshness(common, now).ok, true)
  assert.equal(judgeFreshness({ ...common, since: ago(1), firstWithinMs: 60_000 }, now).ok, true)
  assert.equal(judgeFreshness({ ...common, since: ago(3), firstWithinMs: 60_000 }, now).ok, false)
  assert.equal(judgeFreshness({ ...common, since: ago(20) }, now).ok, true)
})

test('without a schedule age is no fault, and that none is planned is told', () => {
  const check = judgeFreshness({ ...common, schedule: never, lastAt: ago(1000) }, now)
  assert.deepEqual([check.ok, check.seen], [true, '42 days ago, none is scheduled'])
})

test('ages are told as exactly as somebody reads them', () => {
  assert.deepEqual(
    [1, 119, 120, 7199, 7200, 172_799, 172_800].map(seconds => ageText(seconds * 1000)),
    ['1 s', '119 s', '2 min', '120 min', '2 h', '48 h', '2 days'],
  )
})
