import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import {
  clearTheWay,
  endLeftovers,
  findPostmaster,
  isPostmasterAlive,
  type Postmaster,
  sendSignal,
} from './postmaster.ts'

/** fast: sessions are cut, then a checkpoint. immediate: as after a crash, the next start recovers. */
export type StopMode = 'fast' | 'immediate'
export type StopOutcome = 'not running' | 'stopped' | 'killed'

export interface StopOptions {
  dataDirectory: string
  mode: StopMode
  /** For the fast mode; an immediate stop follows. */
  withinMs: number
  log: Log
  clock: Clock
}

const immediateWithinMs = 5_000
const pollMs = 15

/**
 * Stops whatever PostgreSQL runs on the directory, ours or an orphan, and proves that no process of it is left.
 * Throws POSTGRES_STUCK.
 */
export async function stopPostmaster(options: StopOptions): Promise<StopOutcome> {
  const { dataDirectory } = options
  if (!existsSync(dataDirectory)) return 'not running'
  const postmaster = findPostmaster(dataDirectory)
  if (!postmaster) {
    await clearTheWay(dataDirectory)
    return 'not running'
  }
  const outcome = await endPostmaster(postmaster, options)
  await endLeftovers(dataDirectory)
  return outcome
}

async function endPostmaster(postmaster: Postmaster, options: StopOptions): Promise<StopOutcome> {
  const { log, mode, withinMs, clock } = options
  const facts = { postmaster: postmaster.pid }
  if (mode === 'fast') {
    sendSignal(postmaster.pid, 'SIGINT')
    if (await goneWithin(postmaster, withinMs, clock)) return 'stopped'
    log.warn({ ...facts, withinMs }, 'fast stop took too long, stopping immediately')
  }
  sendSignal(postmaster.pid, 'SIGQUIT')
  if (await goneWithin(postmaster, immediateWithinMs, clock)) return 'stopped'
  sendSignal(postmaster.pid, 'SIGKILL')
  log.error(facts, 'PostgreSQL did not stop and was killed')
  return 'killed'
}

async function goneWithin(postmaster: Postmaster, withinMs: number, clock: Clock): Promise<boolean> {
  const untilMs = clock.monotonicMs() + withinMs
  while (isPostmasterAlive(postmaster)) {
    if (clock.monotonicMs() >= untilMs) return false
    await delay(pollMs)
  }
  return true
}
