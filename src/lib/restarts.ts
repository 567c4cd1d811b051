/** How long a process that ended is left down before it is started again. */
export interface RestartPolicy {
  /** Delay before the second restart in a row; each further one doubles it. The first one comes at once. */
  firstDelayMs: number
  longestDelayMs: number
  /** A process that ran this long was healthy: its end starts a new row. */
  stableAfterMs: number
}

/** Restarts in a row that did not last. */
export interface RestartHistory {
  inARow: number
}

export const noRestarts: RestartHistory = { inARow: 0 }

/** Decides about one that has just ended after running for `ranMs`. */
export function nextRestart(
  history: RestartHistory,
  ranMs: number,
  policy: RestartPolicy,
): { history: RestartHistory; delayMs: number } {
  const inARow = ranMs >= policy.stableAfterMs ? 0 : history.inARow
  const delayMs = inARow === 0 ? 0 : Math.min(policy.longestDelayMs, policy.firstDelayMs * 2 ** (inARow - 1))
  return { history: { inARow: inARow + 1 }, delayMs }
}
