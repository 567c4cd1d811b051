import type { WalGap } from './position.ts'

/** What GET /status tells. LSNs are text, times RFC 3339; null is not known yet. */
export interface ArchiverStatus {
  state: ArchiverState
  /** For people; null while everything is as it should be. */
  reason: string | null
  systemIdentifier: string | null
  timeline: number | null
  writeLsn: string | null
  /** On disk in the spool, and confirmed to PostgreSQL. */
  flushLsn: string | null
  serverLsn: string | null
  lagBytes: number | null
  /** In the repository, tails of the open segment included. */
  storedLsn: string | null
  storedAt: string | null
  storedLagBytes: number | null
  /** The last one that was stored whole. */
  lastSegment: string | null
  spool: { directory: string | null; segments: number; bytes: number; limitBytes: number }
  slot: {
    name: string
    restartLsn: string | null
    /** How much WAL PostgreSQL keeps for it, null when unlimited or not known, and how much of that is left. */
    keepBytes: number | null
    leftBytes: number | null
  }
  /** The last few, oldest first. */
  gaps: WalGap[]
  /** Since the start of this process. */
  failures: number
  lastError: { message: string; at: string } | null
}

/**
 * streaming: WAL arrives and is confirmed. waiting: for what `reason` says; it goes on by itself. conflict: two histories
 * have one name, and somebody has to look.
 */
export type ArchiverState = 'starting' | 'streaming' | 'waiting' | 'conflict' | 'stopped'
