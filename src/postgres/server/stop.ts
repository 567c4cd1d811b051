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
  sendersOn,
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

// A server that stops lets each WAL receiver have all of the WAL first, and would wait for one that hangs.
const receiversWithinMs = 3_000
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
    if (await stoppedFast(postmaster, options)) return 'stopped'
    log.warn({ ...facts, withinMs }, 'fast stop took too long, stopping immediately')
  }
  sendSignal(postmaster.pid, 'SIGQUIT')
  if (await goneWithin(postmaster, immediateWithinMs, clock)) return 'stopped'
  sendSignal(postmaster.pid, 'SIGKILL')
  log.error(facts, 'PostgreSQL did not stop and was killed')
  return 'killed'
}

async function stoppedFast(postmaster: Postmaster, options: StopOptions): Promise<boolean> {
  const { dataDirectory, withinMs, clock, log } = options
  const firstMs = Math.min(withinMs, receiversWithinMs)
  if (await goneWithin(postmaster, firstMs, clock)) return true
  if (withinMs === firstMs) return false
  const senders = sendersOn(dataDirectory)
  for (const pid of senders) sendSignal(pid, 'SIGTERM')
  if (senders.length > 0)
    log.warn({ senders: senders.length }, 'a WAL receiver did not take the last WAL in time and was let go')
  return goneWithin(postmaster, withinMs - firstMs, clock)
}

async function goneWithin(postmaster: Postmaster, withinMs: number, clock: Clock): Promise<boolean> {
  const untilMs = clock.monotonicMs() + withinMs
  while (isPostmasterAlive(postmaster)) {
    if (clock.monotonicMs() >= untilMs) return false
    await delay(pollMs)
  }
  return true
}
