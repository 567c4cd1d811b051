import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { OpenOptions } from '#storage/open.ts'

export interface Racer {
  pid: number
  run(task: Record<string, unknown>): Promise<unknown>
}

/** Processes that race for objects of one storage; they end with the test `t`. */
export function startRacers(
  t: { after(work: () => Promise<void>): void },
  options: Omit<OpenOptions, 'log'>,
  count = 2,
): Promise<Racer[]> {
  return Promise.all(Array.from({ length: count }, () => startRacer(t, options)))
}

async function startRacer(
  t: { after(work: () => Promise<void>): void },
  options: Omit<OpenOptions, 'log'>,
): Promise<Racer> {
  const child = fork(join(import.meta.dirname, 'racer.ts'), [JSON.stringify(options)])
  t.after(async () => {
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await ended
  })
  await answerOf(child, 0)
  let round = 0
  return {
    pid: child.pid as number,
    run: task => {
      round++
      const answer = answerOf(child, round)
      child.send({ ...task, round })
      return answer
    },
  }
}

async function answerOf(child: ChildProcess, round: number): Promise<unknown> {
  const [message] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([code]) => assert.fail(`a racer ended with ${code}`)),
  ])) as [{ round: number; result?: unknown; error?: string }]
  assert.equal(message.error, undefined)
  assert.equal(message.round, round)
  return message.result
}
