import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#lib/clock.ts'
import { roleError } from '../errors.ts'
import type { RoleExit } from './role-process.ts'

export interface WaitOptions {
  withinMs: number
  /** A reason that changes starts the time anew: the role gets on with something long, and says how far it is. */
  whileItGetsOn?: boolean
  /** Ends the wait. */
  signal: AbortSignal
  clock: Clock
  /** Named in the failure. */
  log: string
  /** Undefined when ready, else why not; may throw while nobody answers. */
  look: () => Promise<string | undefined>
}

const pollMs = 25
// One unlucky start may be retried; a role that fails three times will not do better the fourth time.
const failedStarts = 3
// Wrong usage or configuration, and refusals for safety: trying again changes nothing.
const finalExits: Record<number, 'ROLE_MISCONFIGURED' | 'ROLE_REFUSED'> = {
  2: 'ROLE_MISCONFIGURED',
  3: 'ROLE_REFUSED',
}

/**
 * Resolves when the role is ready. Throws ROLE_FAILED when it gave up starting or took too long; ROLE_MISCONFIGURED or
 * ROLE_REFUSED, with the role's own exit number, when it said that another try would change nothing.
 */
export async function waitUntilReady(
  role: { name: string; exits: readonly RoleExit[] },
  options: WaitOptions,
): Promise<void> {
  const { clock, signal, log } = options
  let untilMs = clock.monotonicMs() + options.withinMs
  let reason = 'it did not answer'
  for (;;) {
    signal.throwIfAborted()
    const failed = gaveUp(role.exits)
    if (failed) throw roleError(codeOf(role.exits.at(-1)), { role: role.name, reason: failed, log })
    try {
      const looked = await options.look()
      if (looked === undefined) return
      if (options.whileItGetsOn && looked !== reason) untilMs = clock.monotonicMs() + options.withinMs
      reason = looked
    } catch {
      // Not listening yet, or between two attempts to start.
    }
    if (clock.monotonicMs() >= untilMs) throw roleError('ROLE_FAILED', { role: role.name, reason, log })
    await delay(pollMs, undefined, { signal }).catch(() => {})
  }
}

/** Why a role will not start any more; undefined while it may. */
export function gaveUp(exits: readonly RoleExit[]): string | undefined {
  const last = exits.at(-1)
  if (!last || (exits.length < failedStarts && !isFinal(last))) return undefined
  return (last.lastError ?? `it ended with ${last.signal ?? `exit ${last.code}`}`).replace(/\.$/, '')
}

function isFinal(exit: RoleExit | undefined): boolean {
  return exit?.code != null && finalExits[exit.code] !== undefined
}

function codeOf(exit: RoleExit | undefined) {
  return finalExits[exit?.code ?? 0] ?? 'ROLE_FAILED'
}
