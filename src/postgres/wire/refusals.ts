import type { Failure } from '#lib/errors.ts'
import { wireError } from './errors.ts'
import type { ServerWords } from './messages.ts'

/** The row for what the server refused: by SQLSTATE, and by its (untranslated, lc_messages C or English) words. */
export function serverFailure(words: ServerWords, command: string, warnings: readonly string[]): Failure {
  const { sqlState, message, detail } = words
  const reason = detail === undefined ? message : `${message} (${detail.replace(/\.$/, '')})`
  const pages = warnings.filter(warning => /checksum verification failed/.test(warning))
  return wireError(rowOf(words), { command, reason, sqlState, ...(pages.length > 0 ? { pages } : {}) })
}

function rowOf({ sqlState, message }: ServerWords) {
  if (sqlState === 'XX001') return 'WIRE_PAGES_DAMAGED'
  if (sqlState === '42704') return 'WIRE_SLOT_MISSING'
  if (sqlState === '42710') return 'WIRE_SLOT_EXISTS'
  if (sqlState === '55006') return 'WIRE_SLOT_IN_USE'
  // 58P01 is any missing file, 55000 any wrong state: both are told from others by the object they name.
  if (sqlState === '58P01' && /WAL segment/.test(message)) return 'WIRE_WAL_REMOVED'
  if (sqlState === '55000' && /replication slot/.test(message)) return 'WIRE_SLOT_LOST'
  return 'WIRE_REFUSED'
}
