import { readFileSync } from 'node:fs'
import { endianness } from 'node:os'
import { join } from 'node:path'

/**
 * The system identifier of a data directory, in digits; undefined when there is none. Works whether or not its server
 * runs: the first eight bytes of global/pg_control, in the machine's byte order (PostgreSQL: catalog/pg_control.h).
 */
export function readSystemIdentifier(dataDirectory: string): string | undefined {
  try {
    const bytes = readFileSync(join(dataDirectory, 'global', 'pg_control'))
    if (bytes.length < 8) return undefined
    return String(endianness() === 'LE' ? bytes.readBigUInt64LE(0) : bytes.readBigUInt64BE(0))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
