/** What a player may ask with a key. */
export type Payload = { stakePerLine: string; lines: number } | { clientSeed: string }

/**
 * ok: an answer with a 2xx status. refused: a 4xx, which promises that nothing was done. unknown: everything else, where
 * it may or may not have been done.
 */
export type Outcome =
  | { kind: 'ok'; status: number; body: string; replayed: boolean }
  | { kind: 'refused'; status: number; code: string }
  | { kind: 'unknown'; cause: string }

/** One call with its times on this process's monotonic clock, in milliseconds. */
export interface Call {
  client: string
  op: 'spin' | 'rotate'
  key: string
  payload: Payload
  invokedAtMs: number
  completedAtMs: number
  outcome: Outcome
}

/** The calls of many clients, in the order in which they completed. */
export class History {
  readonly calls: Call[] = []

  /** Runs one call and keeps what came of it. */
  async record(
    call: Pick<Call, 'client' | 'op' | 'key' | 'payload'>,
    run: () => Promise<Outcome>,
  ): Promise<Outcome> {
    const invokedAtMs = performance.now()
    const outcome = await run()
    this.calls.push({ ...call, invokedAtMs, completedAtMs: performance.now(), outcome })
    return outcome
  }

  /** Per client and key, calls whose outcome is unknown and that no later call of the same key has settled. */
  unresolved(): Call[] {
    const open = new Map<string, Call>()
    const settledAtMs = new Map<string, number>()
    for (const call of this.calls) {
      const id = `${call.client} ${call.op} ${call.key}`
      if (call.outcome.kind === 'unknown') open.set(id, call)
      // Only a call that began after the unknown one ended has seen what became of it.
      else settledAtMs.set(id, Math.max(settledAtMs.get(id) ?? 0, isSettling(call) ? call.invokedAtMs : 0))
    }
    return [...open]
      .filter(([id, call]) => (settledAtMs.get(id) ?? 0) <= call.completedAtMs)
      .map(([, call]) => call)
  }
}

/** A refusal for its own sake (such as another payload under the key) says nothing about the call before. */
function isSettling(call: Call): boolean {
  if (call.outcome.kind === 'ok') return true
  return call.outcome.kind === 'refused' && call.outcome.code === 'INSUFFICIENT_BALANCE'
}
