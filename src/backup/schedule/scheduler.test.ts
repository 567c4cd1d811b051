import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { manualClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import type { Job, Jobs } from '../jobs/jobs.ts'
import type { Schedule } from './policy.ts'
import { type DoneAt, Scheduler } from './scheduler.ts'

const schedules: Schedule[] = [
  { name: 'backup', pattern: '0 2 * * *', timezone: 'UTC' },
  { name: 'verify', pattern: '0 3 * * *', timezone: 'UTC' },
  { name: 'drill', pattern: '0 4 * * 0', timezone: 'UTC' },
]
const minuteMs = 60_000

function scheduler(t: TestContext, done: DoneAt) {
  const root = mkdtempSync(join(tmpdir(), 'scheduler-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  const clock = manualClock('2026-03-04T12:00:00Z')
  const started: string[] = []
  const jobs = {
    running: undefined as Job | undefined,
    start: (kind: string, args: string[], by: string) => started.push([kind, ...args, by].join(' ')),
  }
  const open = () =>
    new Scheduler({
      home: openHome(root),
      schedules,
      firstAfterMs: minuteMs,
      verifyEveryDays: 7,
      jobs: jobs as unknown as Jobs,
      doneAt: () => done,
      clock,
      log: silentLog,
    })
  return { clock, started, jobs, open }
}

describe('the scheduler', () => {
  test('takes the first backup a while after the start, and again when it failed', t => {
    const { clock, started, open } = scheduler(t, { anyBackup: false })
    const one = open()
    one.tick()
    assert.deepEqual(started, [])
    clock.advance(minuteMs)
    one.tick()
    one.tick()
    assert.deepEqual(started, ['full first'])
    clock.advance(minuteMs)
    one.tick()
    assert.equal(started.length, 2)
    one.close()
  })

  test('starts what is due in order, one at a time, and remembers over a restart what it tried', t => {
    const done: DoneAt = { anyBackup: true, backup: new Date('2026-03-04T12:00:00Z') }
    const { clock, started, jobs, open } = scheduler(t, done)
    let one = open()
    clock.advance(16 * 60 * minuteMs)
    one.tick()
    assert.deepEqual(started, ['full --slot 2026-03-05T02:00:00.000Z schedule'])
    jobs.running = {} as Job
    one.tick()
    assert.equal(started.length, 1)
    jobs.running = undefined
    one.close()
    one = open()
    one.tick()
    one.tick()
    assert.deepEqual(started.slice(1), ['verify --every-days 7 schedule'])
    one.close()
  })

  test('heals a hole in the log with a backup, and tries again until one ends well', t => {
    const { clock, started, open } = scheduler(t, { anyBackup: true })
    const one = open()
    one.heal('slot lost')
    one.tick()
    one.tick()
    assert.deepEqual(started, ['full gap'])
    clock.advance(minuteMs)
    one.tick()
    assert.equal(started.length, 2)
    one.ended({ kind: 'full', state: 'done' } as Job)
    clock.advance(minuteMs)
    one.tick()
    assert.equal(started.length, 2)
    one.close()
  })
})
