import { Failure } from '#lib/errors.ts'
import type { ReplicationConnection } from '#postgres/wire/connection.ts'
import { archiveError } from './errors.ts'
import type { Position } from './position.ts'

export interface UsableSlot extends Position {
  /** made: there was none. remade: PostgreSQL had given it up. */
  outcome: 'kept' | 'made' | 'remade'
}

/** The slot with WAL reserved, whatever was there before. @throws ARCHIVE_SLOT_UNUSABLE and what the wire throws */
export async function ensureSlot(connection: ReplicationConnection, name: string): Promise<UsableSlot> {
  const found = await connection.readSlot(name)
  if (found?.restartLsn !== undefined) return usable(connection, found, 'kept')
  if (!found) return makeSlot(connection, name, 'made')
  return remakeSlot(connection, name)
}

export async function remakeSlot(connection: ReplicationConnection, name: string): Promise<UsableSlot> {
  await dropSlot(connection, name)
  return makeSlot(connection, name, 'remade')
}

async function dropSlot(connection: ReplicationConnection, name: string): Promise<void> {
  try {
    await connection.dropSlot(name)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'WIRE_SLOT_MISSING') throw error
  }
}

async function makeSlot(
  connection: ReplicationConnection,
  name: string,
  outcome: UsableSlot['outcome'],
): Promise<UsableSlot> {
  await connection.createSlot(name, { reserveWal: true })
  const made = await connection.readSlot(name)
  if (made?.restartLsn === undefined)
    throw archiveError('ARCHIVE_SLOT_UNUSABLE', { slot: name, reason: 'it reserves no WAL' })
  return usable(connection, made, outcome)
}

async function usable(
  connection: ReplicationConnection,
  state: { restartLsn?: bigint; restartTimeline?: number },
  outcome: UsableSlot['outcome'],
): Promise<UsableSlot> {
  const timeline = state.restartTimeline ?? (await connection.identifySystem()).timeline
  return { lsn: state.restartLsn ?? 0n, timeline, outcome }
}
