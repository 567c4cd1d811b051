import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { type Job, Jobs } from './jobs.ts'

/** Jobs whose verb is this program text; ends are handed to the returned waiter. */
function jobsRunning(script: string, cancelWithinMs = 5_000) {
  const ends = new EventTarget()
  const jobs = new Jobs({
    command: [process.execPath, '-e', script, '--'],
    env: process.env,
    cwd: process.cwd(),
    clock: systemClock,
    log: silentLog,
    onEnd: job => ends.dispatchEvent(new CustomEvent('end', { detail: job })),
    cancelWithinMs,
  })
  const end = async (): Promise<Job> => ((await once(ends, 'end')) as [CustomEvent<Job>])[0].detail
  return { jobs, end }
}

describe('jobs', () => {
  test('keep the progress and the result of a verb', async () => {
    const { jobs, end } = jobsRunning(`
      console.log(JSON.stringify({ event: 'progress', bytesDone: 1 }))
      console.log('not json')
      console.log(JSON.stringify({ event: 'done', verb: process.argv.slice(1).join(' ') }))
      process.exit(0)`)
    const job = jobs.start('full', ['--label', 'x'], 'schedule')
    assert.equal(jobs.running, job)
    const ended = await end()
    assert.equal(ended.state, 'done')
    assert.deepEqual(ended.progress, { bytesDone: 1 })
    assert.deepEqual(ended.result, { verb: 'backup full --label x --json --attached' })
    assert.equal(jobs.running, undefined)
    assert.equal(jobs.find(job.id), ended)
  })

  test('keep what a verb says when it fails', async () => {
    const { jobs, end } = jobsRunning(`
      console.error('a warning')
      console.error(JSON.stringify({ error: { code: 'STORAGE_FULL', message: 'full' } }))
      process.exitCode = 1`)
    jobs.start('db', [], 'schedule')
    const ended = await end()
    assert.equal(ended.state, 'failed')
    assert.equal(ended.error?.code, 'STORAGE_FULL')
  })

  test('a verb that is killed has failed, with its signal', async () => {
    const { jobs, end } = jobsRunning(`process.kill(process.pid, 'SIGKILL')`)
    jobs.start('drill', [], 'schedule')
    assert.match((await end()).error?.message ?? '', /signal SIGKILL/)
  })

  test('one at a time', async () => {
    const { jobs } = jobsRunning('process.stdin.resume()')
    jobs.start('full', [], 'operator:ana')
    assert.throws(() => jobs.start('drill', [], 'schedule'), { code: 'BACKUP_BUSY' })
    await jobs.cancel()
  })

  test('a cancelled verb may tidy up, and is killed when it does not end', async () => {
    const tidy = jobsRunning(`
      process.on('SIGTERM', () => { console.log('{"event":"done","tidy":true}'); process.exit(1) })
      console.log('{"event":"progress"}'); process.stdin.resume()`)
    const job = tidy.jobs.start('full', [], 'schedule')
    while (!job.progress) await new Promise(setImmediate)
    await tidy.jobs.cancel(job.id)
    assert.deepEqual([job.state, job.result], ['cancelled', { tidy: true }])

    const stubborn = jobsRunning(
      `process.on('SIGTERM', () => {}); console.log('{"event":"progress"}'); process.stdin.resume()`,
      50,
    )
    const other = stubborn.jobs.start('full', [], 'schedule')
    while (!other.progress) await new Promise(setImmediate)
    await stubborn.jobs.cancel()
    assert.equal(other.state, 'cancelled')
  })

  test('a program that is not there is a failed job', async () => {
    const ends: Job[] = []
    const jobs = new Jobs({
      command: ['/nowhere/node'],
      env: {},
      cwd: process.cwd(),
      clock: systemClock,
      log: silentLog,
      onEnd: job => ends.push(job),
    })
    jobs.start('full', [], 'schedule')
    while (ends.length === 0) await new Promise(setImmediate)
    assert.match(ends[0]?.error?.message ?? '', /ENOENT/)
  })
})
