import type { Lsn } from '#lib/lsn.ts'

/** What IDENTIFY_SYSTEM says. The identifier has 64 bits and therefore stays text. */
export interface SystemIdentity {
  systemIdentifier: string
  timeline: number
  /** Flushed on a primary, replayed on a standby. */
  flushLsn: Lsn
}

export interface WalPosition {
  lsn: Lsn
  timeline: number
}

/** A physical slot; without restartLsn it has reserved nothing yet. */
export interface SlotState {
  restartLsn?: Lsn
  restartTimeline?: number
}

/** One archive of a base backup. The data directory has neither oid nor path and comes last. */
export interface TablespaceFacts {
  oid?: string
  path?: string
  kilobytes?: number
}

export interface BaseBackupOptions {
  label: string
  /** fast: the checkpoint at once; spread: as the server paces its own. */
  checkpoint?: 'fast' | 'spread'
  /** Whether the WAL between start and end comes inside the archive `base.tar`. */
  wal?: boolean
  /** 32 to 1048576 kB/s. */
  maxRateKilobytes?: number
  manifestChecksums?: 'CRC32C' | 'SHA256' | 'NONE'
  /** Page checksums; a failure ends the backup in WIRE_PAGES_DAMAGED. */
  verifyChecksums?: boolean
}

/**
 * Where a base backup goes. Bytes are only valid until the method returns or its promise settles; a promise pauses the
 * socket. What a method throws ends the backup and the connection, and is what baseBackup() rejects with.
 * Nothing of it is a backup before baseBackup() has resolved.
 */
export interface BaseBackupSink {
  begin(facts: { lsn: Lsn; timeline: number; tablespaces: TablespaceFacts[] }): void | Promise<void>
  /** `base.tar` with an empty path, or `<oid>.tar` with the tablespace's path on the server. */
  archive(name: string, tablespacePath: string): void | Promise<void>
  data(bytes: Buffer): void | Promise<void>
  /** The manifest begins; it is the last thing that comes. */
  manifest(): void
  manifestData(bytes: Buffer): void
  progress(bytesDone: number): void
}

/** Where streamed WAL goes; the rules of BaseBackupSink hold. */
export interface WalSink {
  /** Bytes at `start`, in order and without a gap. `serverEnd` is how far the server's WAL goes. */
  data(start: Lsn, bytes: Buffer, serverEnd: Lsn): void | Promise<void>
  /** The last confirmed position is repeated to the server when `replyNow` and nothing was confirmed here. */
  keepalive(serverEnd: Lsn, replyNow: boolean): void
  /** After the last message of one socket read: the place for one fdatasync for all of them. */
  turn(): void | Promise<void>
}

export interface StreamOptions {
  slot?: string
  start: Lsn
  timeline: number
  /** A server that does not even answer questions for that long is given up; 30 s unless given. */
  serverSilenceMs?: number
}

export interface TimelineEnd {
  nextTimeline: number
  switchLsn: Lsn
}

export interface WalStream {
  /** Tells the server what is written and flushed here; it may drop WAL before `flush`. Nothing after the end. */
  confirm(position: { write: Lsn; flush: Lsn; apply?: Lsn }, replyNow?: boolean): void
  /** Resolves at the end of a timeline with what comes next; rejects when the connection breaks. 'stopped' after stop(). */
  readonly ended: Promise<TimelineEnd | 'stopped'>
  /** No sink method is called any more; resolves when the connection can be used again or is gone. */
  stop(): Promise<void>
}

/** What the server said beside its answers. */
export interface Notice {
  severity: string
  sqlState: string
  message: string
  detail?: string
}

export interface OpenOptions {
  applicationName?: string
  connectWithinMs?: number
  /** Ends the connection and whatever runs on it. */
  signal?: AbortSignal
  onNotice?: (notice: Notice) => void
}
