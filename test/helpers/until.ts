import assert from 'node:assert/strict'

/** Looks again and again until `seen` says so; a look is cheap. Fails after ten seconds. */
export async function until(seen: () => Promise<boolean> | boolean, withinMs = 10_000): Promise<void> {
  const deadlineMs = performance.now() + withinMs
  while (!(await seen())) {
    assert.ok(performance.now() < deadlineMs, `it did not happen in ${withinMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
