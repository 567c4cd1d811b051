import type pg from 'pg'
import type { Lsn } from '#lib/lsn.ts'
import type {
  BaseBackupOptions,
  BaseBackupSink,
  OpenOptions,
  SlotState,
  SystemIdentity,
  WalPosition,
  WalSink,
  WalStream,
} from './model.ts'

export type * from './model.ts'

export declare class ReplicationConnection {
  static open(config: pg.ClientConfig, options?: OpenOptions): Promise<ReplicationConnection>
  /** Such as 150018. */
  readonly serverVersion: number
  identifySystem(): Promise<SystemIdentity>
  show(setting: string): Promise<string>
  readSlot(name: string): Promise<SlotState | undefined>
  createSlot(name: string, options: { reserveWal: boolean; temporary?: boolean }): Promise<void>
  dropSlot(name: string): Promise<void>
  timelineHistory(timeline: number): Promise<{ fileName: string; content: Buffer }>
  baseBackup(
    options: BaseBackupOptions,
    sink: BaseBackupSink,
  ): Promise<{ start: WalPosition; end: WalPosition }>
  streamWal(options: { slot?: string; start: Lsn; timeline: number }, sink: WalSink): Promise<WalStream>
  /** Orderly and bounded. */
  close(): Promise<void>
  destroy(): void
}
