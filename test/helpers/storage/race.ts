import { fork } from 'node:child_process'
import { once } from 'node:events'
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
  const child = fork(new URL('./racer.ts', import.meta.url), [JSON.stringify(options)])
  t.after(async () => {
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await ended
  })
  const waiting = new Map<number, PromiseWithResolvers<unknown>>()
  const answerTo = (round: number) => {
    const answer = Promise.withResolvers<unknown>()
    waiting.set(round, answer)
    return answer.promise
  }
  child.on('message', ({ round, result, error }: { round: number; result?: unknown; error?: string }) => {
    if (error === undefined) waiting.get(round)?.resolve(result)
    else waiting.get(round)?.reject(new Error(error))
    waiting.delete(round)
  })
  child.once('exit', code => {
    for (const { reject } of waiting.values()) reject(new Error(`a racer ended with ${code}`))
  })
  await answerTo(0)
  let round = 0
  return {
    pid: child.pid as number,
    run: task => {
      round++
      child.send({ ...task, round })
      return answerTo(round)
    },
  }
}
