export interface Check {
  name: string
  ok: boolean
  /** What was seen. */
  seen: string
  /** What to do when it is not well. */
  mend?: string
}

export function gigabytes(bytes: number): string {
  return (bytes / 1024 ** 3).toFixed(1)
}

/** `40 s`, `12 min`, `5 h`, `3 days`: as exact as somebody reads it. */
export function ageText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}
