import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { protocol } from './reader.ts'

/** Columns as the server sent them, in text form; null for NULL. */
export type Row = (Buffer | null)[]

/** The fields of ErrorResponse and NoticeResponse that we use (54.8 Error and Notice Message Fields). */
export interface ServerWords {
  /** ERROR, FATAL, PANIC, WARNING, NOTICE, ...: never translated. */
  severity: string
  sqlState: string
  message: string
  detail?: string
}

/** ErrorResponse and NoticeResponse: a letter and a text each, then a zero. */
export function parseServerWords(body: Buffer): ServerWords {
  const fields = new Map<string, string>()
  for (let at = 0; at < body.length && body[at] !== 0; ) {
    const end = body.indexOf(0, at + 1)
    if (end === -1) throw protocol('a text without an end in what the server said')
    fields.set(String.fromCharCode(body[at] as number), body.toString('utf8', at + 1, end))
    at = end + 1
  }
  const detail = fields.get('D')
  return {
    severity: fields.get('V') ?? fields.get('S') ?? 'ERROR',
    sqlState: fields.get('C') ?? 'XX000',
    message: fields.get('M') ?? 'no words',
    ...(detail === undefined ? {} : { detail }),
  }
}

/** DataRow; the columns are copies. */
export function parseRow(body: Buffer): Row {
  let at = 2
  const row: Row = []
  for (let left = body.length < 2 ? -1 : body.readInt16BE(0); left > 0; left--) {
    if (at + 4 > body.length) throw protocol('a row that ends early')
    const length = body.readInt32BE(at)
    at += 4
    if (length < -1 || at + length > body.length) throw protocol('a column longer than its row')
    row.push(length === -1 ? null : Buffer.from(body.subarray(at, at + length)))
    at += Math.max(0, length)
  }
  if (at !== body.length) throw protocol('a row that is not as long as its columns')
  return row
}

/** Column texts of a result's first row; NULL is undefined. */
export function textOf(row: Row | undefined, column: number): string | undefined {
  return row?.[column]?.toString('utf8')
}

export function lsnOf(row: Row | undefined, column: number): Lsn {
  const text = textOf(row, column) ?? ''
  const lsn = parseLsn(text)
  if (lsn === undefined) throw protocol(`'${text}' where an LSN belongs`)
  return lsn
}

export function integerOf(row: Row | undefined, column: number): number {
  const text = textOf(row, column) ?? ''
  const value = Number(text)
  if (!/^\d{1,15}$/.test(text)) throw protocol(`'${text}' where a number belongs`)
  return value
}

/** Query; @throws when the text has a zero byte, which would end it early. */
export function queryMessage(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  if (bytes.includes(0)) throw new TypeError('a command with a zero byte')
  const message = Buffer.alloc(bytes.length + 6)
  message.write('Q', 0, 'latin1')
  message.writeUInt32BE(bytes.length + 5, 1)
  bytes.copy(message, 5)
  return message
}

export const copyDoneMessage = Buffer.from([0x63, 0, 0, 0, 4])
export const terminateMessage = Buffer.from([0x58, 0, 0, 0, 4])

/** Microseconds from 1970 to 2000, where PostgreSQL's clock begins. */
export const postgresEpochMicroseconds = 946_684_800_000_000n

/** Standby status update (54.4 Streaming Replication Protocol), as CopyData. */
export function statusMessage(o: {
  write: Lsn
  flush: Lsn
  apply: Lsn
  nowMs: number
  replyNow: boolean
}): Buffer {
  const message = Buffer.alloc(39)
  message.write('d', 0, 'latin1')
  message.writeUInt32BE(38, 1)
  message.write('r', 5, 'latin1')
  message.writeBigUInt64BE(o.write, 6)
  message.writeBigUInt64BE(o.flush, 14)
  message.writeBigUInt64BE(o.apply, 22)
  message.writeBigInt64BE(BigInt(o.nowMs) * 1000n - postgresEpochMicroseconds, 30)
  message.writeUInt8(o.replyNow ? 1 : 0, 38)
  return message
}

/** A name in a replication command. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A text in a replication command; backslashes mean nothing there. */
export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}
