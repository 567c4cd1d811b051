import type { SettingValue } from '#postgres/server/settings.ts'
import type { RestoreTarget } from './target.ts'

/** Fewer than the original had would keep PostgreSQL from replaying what needed them. */
const inherited = ['max_prepared_transactions', 'max_locks_per_transaction', 'max_connections']

export interface RecoveryInput {
  target: RestoreTarget
  timeline: number
  restoreCommand: string
  /** Of the server that was backed up. */
  original: Readonly<Record<string, string>>
  logName: string
  /** Whether a crash of this machine may lose what was replayed. */
  durable: boolean
}

/**
 * Settings of a server that replays and promotes, and does nothing else: nobody is told, nobody is waited for, and it
 * can be reached over its private socket only.
 */
export function recoverySettings(input: RecoveryInput): Record<string, SettingValue> {
  const kept = inherited.flatMap(name => (input.original[name] ? [[name, Number(input.original[name])]] : []))
  return {
    ...Object.fromEntries(kept),
    listen_addresses: '',
    ssl: false,
    archive_mode: 'off',
    synchronous_standby_names: '',
    primary_conninfo: '',
    primary_slot_name: '',
    restore_command: input.restoreCommand,
    ...targetSettings(input.target),
    recovery_target_timeline: String(input.timeline),
    recovery_target_action: 'promote',
    // Without sessions during the replay it needs no more connections, locks and workers than the original had.
    hot_standby: false,
    // Every one of them writes all dirty pages; there is nothing to be lost before the end.
    max_wal_size: '16GB',
    checkpoint_timeout: '1h',
    autovacuum: false,
    ...(input.durable ? {} : { fsync: false, full_page_writes: false }),
    log_filename: input.logName,
    log_rotation_age: 0,
    log_truncate_on_rotation: false,
  }
}

/** An LSN is where the log that is handed out ends. */
function targetSettings(target: RestoreTarget): Record<string, SettingValue> {
  if (target.kind === 'time') return { recovery_target_time: target.text }
  if (target.kind === 'name') return { recovery_target_name: target.name }
  return {}
}
