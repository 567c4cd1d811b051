import { networkInterfaces, totalmem } from 'node:os'

export type SettingValue = string | number | boolean

export interface SettingsInput {
  name: string
  port: number
  socketDirectory: string
  listenAddresses: readonly string[]
  logDirectory: string
  sharedBuffersMegabytes: number
  /** Of the server, such as 18. */
  major: number
  /** Wins over everything above it. */
  extra?: Readonly<Record<string, SettingValue>>
}

/** The text of moonyetis.conf, written anew at each start; what people set by ALTER SYSTEM still wins over it. */
export function renderSettings(input: SettingsInput): string {
  const lines = Object.entries({ ...settingsFor(input), ...input.extra }).map(
    ([name, value]) => `${name} = ${renderValue(value)}`,
  )
  return [
    '# Written by MoonYetis at each start; changes belong into ALTER SYSTEM or the configuration.',
    ...lines,
    '',
  ].join('\n')
}

/** The port of an earlier start, out of the text of moonyetis.conf. */
export function rememberedPort(text: string): number | undefined {
  const port = Number(/^port = (\d+)$/m.exec(text)?.[1])
  return Number.isSafeInteger(port) && port > 0 ? port : undefined
}

/** An eighth of the memory, at most 512 MB: the working set of a slot game is small and the kernel caches the rest. */
export function defaultSharedBuffersMegabytes(memoryBytes: number): number {
  const eighth = Math.floor(memoryBytes / 8 / 1024 / 1024)
  return Math.min(512, Math.max(128, eighth))
}

/** Memory of the machine or of the container around us, whichever is smaller. */
export function usableMemoryBytes(): number {
  const constrained = process.constrainedMemory()
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem()
}

/** 127.0.0.1, and ::1 where the machine has it. */
export function loopbackAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flat()
  return ['127.0.0.1', ...(all.some(one => one?.address === '::1') ? ['::1'] : [])]
}

function settingsFor(input: SettingsInput): Record<string, SettingValue> {
  return {
    ...connectionSettings(input),
    ...durabilitySettings,
    ...replicationSettings(input),
    ...logSettings(input),
    ...limits,
  }
}

function connectionSettings(input: SettingsInput): Record<string, SettingValue> {
  return {
    cluster_name: input.name,
    listen_addresses: input.listenAddresses.join(','),
    port: input.port,
    // A list: double quotes keep commas and spaces of a path inside one entry.
    unix_socket_directories: `"${input.socketDirectory.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    max_connections: 100,
    superuser_reserved_connections: 5,
    password_encryption: 'scram-sha-256',
    shared_buffers: `${input.sharedBuffersMegabytes}MB`,
    timezone: 'UTC',
    jit: false,
  }
}

const durabilitySettings = {
  fsync: true,
  synchronous_commit: 'on',
  full_page_writes: true,
  // After a checkpoint each page goes to the WAL whole at its first change. Compressing those images in the backends held
  // every spin up for seconds (docs/decisions/0011); what is archived is compressed later, by somebody nobody waits for.
  wal_compression: false,
  // Rare checkpoints mean few full-page images; a crash replays at most max_wal_size.
  max_wal_size: '4GB',
  min_wal_size: '256MB',
  checkpoint_timeout: '15min',
  checkpoint_completion_target: 0.9,
  autovacuum: true,
}

function replicationSettings({ major }: SettingsInput): Record<string, SettingValue> {
  return {
    wal_level: 'replica',
    max_wal_senders: 10,
    max_replication_slots: 10,
    hot_standby: true,
    // The default of 5 s is the promotion time whenever the WAL receiver died before the promotion was asked for.
    wal_retrieve_retry_interval: '100ms',
    // Only for peers that vanished without a word. A receiver whose disk takes some seconds for one fsync on a busy machine
    // must stay connected: cut off, it would come back later than it answers. That a connected one has stalled is seen by
    // supervise at once, from commits that wait while its flushed position stands still.
    wal_sender_timeout: '30s',
    // A receiver asks for a sign of life at half of this, so it may be shorter than the sender's.
    wal_receiver_timeout: '5s',
    // How long an absent archive keeps its slot is a matter of bytes (max_slot_wal_keep_size), not of time.
    ...(major >= 18 ? { idle_replication_slot_timeout: 0 } : {}),
  }
}

const limits = {
  statement_timeout: 0,
  idle_in_transaction_session_timeout: '60s',
  // A vanished client must not keep its locks for the two hours of the kernel's default.
  tcp_keepalives_idle: 30,
  tcp_keepalives_interval: 10,
  tcp_keepalives_count: 3,
}

function logSettings(input: SettingsInput): Record<string, SettingValue> {
  return {
    logging_collector: true,
    log_directory: input.logDirectory,
    // Seven files, each overwritten a week later.
    log_filename: `${input.name}-%a.log`,
    log_rotation_age: '1d',
    log_rotation_size: 0,
    log_truncate_on_rotation: true,
    log_file_mode: '0600',
    log_timezone: 'UTC',
    log_line_prefix: '%m [%p] %q%u@%d ',
    log_checkpoints: true,
    log_lock_waits: true,
    log_min_duration_statement: '1s',
    // Parameters hold seeds, tokens and names: never in a log.
    log_parameter_max_length: 0,
    log_parameter_max_length_on_error: 0,
  }
}

function renderValue(value: SettingValue): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off'
  if (typeof value === 'number') return String(value)
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}
