import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkSchedule, dueNow, nextRun, type Schedule } from './policy.ts'

const daily: Schedule = { name: 'backup', pattern: '0 2 * * *', timezone: 'UTC' }
const at = (text: string) => new Date(text)
const since = at('2026-01-01T00:00:00Z')

describe('the schedule', () => {
  test('is due from its moment on', () => {
    assert.equal(
      dueNow(daily, at('2026-03-05T01:59:59Z'), { since, doneAt: at('2026-03-04T02:00:01Z') }),
      undefined,
    )
    const due = dueNow(daily, at('2026-03-05T02:00:00Z'), { since, doneAt: at('2026-03-04T02:00:01Z') })
    assert.equal(due?.slot.toISOString(), '2026-03-05T02:00:00.000Z')
  })

  test('is done once a run began at or after its moment', () => {
    const now = at('2026-03-05T09:00:00Z')
    assert.equal(dueNow(daily, now, { since, doneAt: at('2026-03-05T02:00:00Z') }), undefined)
    assert(dueNow(daily, now, { since, doneAt: at('2026-03-05T01:59:59Z') }))
  })

  test('makes up for one missed run, the latest', () => {
    const due = dueNow(daily, at('2026-03-05T23:00:00Z'), { since, doneAt: at('2026-03-01T02:00:00Z') })
    assert.equal(due?.slot.toISOString(), '2026-03-05T02:00:00.000Z')
  })

  test('owes nothing from before the installation', () => {
    assert.equal(dueNow(daily, at('2026-03-05T09:00:00Z'), { since: at('2026-03-05T08:00:00Z') }), undefined)
  })

  test('leaves a run that failed to the next moment', () => {
    const triedSlot = at('2026-03-05T02:00:00Z')
    assert.equal(dueNow(daily, at('2026-03-05T09:00:00Z'), { since, triedSlot }), undefined)
    assert(dueNow(daily, at('2026-03-06T02:00:00Z'), { since, triedSlot }))
  })

  test('a weekly run is made up for within the week only', () => {
    const monthly: Schedule = { name: 'drill', pattern: '0 4 1 * *', timezone: 'UTC' }
    assert(dueNow(monthly, at('2026-03-05T00:00:00Z'), { since }))
    assert.equal(dueNow(monthly, at('2026-03-20T00:00:00Z'), { since }), undefined)
  })

  test('keeps the wall clock of its time zone over a change of the clocks', () => {
    const madrid = { ...daily, timezone: 'Europe/Madrid' }
    assert.equal(nextRun(madrid, at('2026-01-10T12:00:00Z'))?.toISOString(), '2026-01-11T01:00:00.000Z')
    assert.equal(nextRun(madrid, at('2026-07-10T12:00:00Z'))?.toISOString(), '2026-07-11T00:00:00.000Z')
    // 02:00 does not exist on this night; the day still has its run.
    const night = nextRun(madrid, at('2026-03-28T12:00:00Z'))
    assert.equal(night?.toISOString().slice(0, 10), '2026-03-29')
  })

  test('an empty schedule never runs', () => {
    const never = { ...daily, pattern: '' }
    assert.equal(dueNow(never, at('2026-03-05T02:00:00Z'), { since }), undefined)
    assert.equal(nextRun(never, since), undefined)
    checkSchedule(never)
  })

  test('what nobody can read is refused with the reason', () => {
    assert.throws(() => checkSchedule({ ...daily, pattern: '61 2 * * *' }), {
      code: 'BACKUP_SCHEDULE_INVALID',
    })
    assert.throws(() => checkSchedule({ ...daily, timezone: 'Europe/Madird' }), {
      code: 'BACKUP_SCHEDULE_INVALID',
    })
  })
})
