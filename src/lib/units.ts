// The ledger stores chips in a signed 64-bit column, so nothing above this can be a balance.
const largestChips = 2n ** 63n - 1n

/** Whole chips from a digit string (`0`, `25`, never `+1`, `01`, `1.0`, `1e3`); undefined when it is anything else. */
export function parseChips(text: string): bigint | undefined {
  if (!/^(?:0|[1-9][0-9]{0,18})$/.test(text)) return undefined
  const chips = BigInt(text)
  return chips <= largestChips ? chips : undefined
}

/** The digit string that JSON answers carry. */
export function formatChips(chips: bigint): string {
  return chips.toString(10)
}
