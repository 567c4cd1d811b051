/** A position in the write-ahead log: bytes since its beginning, unsigned 64-bit (PostgreSQL 8.20, type pg_lsn). */
export type Lsn = bigint

/** The size unless initdb was told otherwise. */
export const defaultSegmentBytes = 16 * 1024 * 1024

const lsnText = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i
const segmentText = /^[0-9A-F]{24}$/

/** `0/5B000028` to bytes; undefined when it is no LSN. */
export function parseLsn(text: string): Lsn | undefined {
  const parts = lsnText.exec(text)
  if (!parts) return undefined
  return (BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`)
}

/** As PostgreSQL prints it: `0/5B000028`. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`.toUpperCase()
}

/** The first byte of the segment that holds the position. */
export function segmentStart(lsn: Lsn, segmentBytes: number): Lsn {
  return lsn - (lsn % BigInt(segmentBytes))
}

/** `TTTTTTTTXXXXXXXXYYYYYYYY` of the segment that holds the position (xlog_internal.h, XLogFileName). */
export function segmentName(timeline: number, lsn: Lsn, segmentBytes: number): string {
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes)
  const number = lsn / BigInt(segmentBytes)
  return hex8(BigInt(timeline)) + hex8(number / perLog) + hex8(number % perLog)
}

/** The reverse of segmentName; undefined for anything else, names that no segment size can have included. */
export function parseSegmentName(
  name: string,
  segmentBytes: number,
): { timeline: number; start: Lsn } | undefined {
  if (!segmentText.test(name)) return undefined
  const part = (from: number) => BigInt(`0x${name.slice(from, from + 8)}`)
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes)
  if (part(16) >= perLog) return undefined
  return { timeline: Number(part(0)), start: (part(8) * perLog + part(16)) * BigInt(segmentBytes) }
}

/** `00000002.history`. */
export function historyName(timeline: number): string {
  return `${hex8(BigInt(timeline))}.history`
}

/** Eight upper-case hexadecimal digits, as in the names above. */
export function timelineText(timeline: number): string {
  return hex8(BigInt(timeline))
}

function hex8(value: bigint): string {
  return value.toString(16).toUpperCase().padStart(8, '0')
}
