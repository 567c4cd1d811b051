import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '#lib/clock.ts'
import { Datasync } from './datasync.ts'

test('a quick disk is asked on this thread, and a slow answer sends the next ones to another', async () => {
  const clock = manualClock()
  const asked: string[] = []
  let tookMs = 1
  const call = (how: string) => () => {
    asked.push(how)
    clock.advance(tookMs)
  }
  const later = call('later')
  const datasync = new Datasync({ clock, calls: { now: call('now'), later: async () => later() } })
  const many = async (count: number) => {
    for (let i = 0; i < count; i++) await datasync.sync(0)
    return asked.splice(0)
  }
  const how = (list: string[]) => [...new Set(list)].join()

  assert.equal(how(await many(50)), 'later')
  assert.equal(how(await many(20)), 'now')
  tookMs = 30
  assert.equal(how(await many(1)), 'now')
  assert.equal(how(await many(60)), 'later')
  tookMs = 1
  assert.equal(how(await many(50)), 'later')
  assert.equal(how(await many(1)), 'now')
})

test('a failure is told, whichever way it was asked for', async () => {
  const failing = (times: number) => {
    let left = times
    const fail = () => {
      if (left-- <= 0) throw new Error('EIO')
    }
    return new Datasync({ calls: { now: fail, later: async () => fail() } })
  }
  await assert.rejects(failing(0).sync(0), /EIO/)
  const later = failing(60)
  for (let i = 0; i < 60; i++) await later.sync(0)
  await assert.rejects(later.sync(0), /EIO/)
})
