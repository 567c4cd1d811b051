/** Shapes that are written into a repository. docs/backup-format.md describes them for other programs. */

export const formatVersion = 1

export type BackupKind = 'full' | 'db' | 'files'

/** `repository.json`: plain JSON, signed by the signer it names. */
export interface RepositoryDescriptor {
  format: typeof formatVersion
  /** 32 hexadecimal characters. */
  id: string
  /** Ed25519 public key, 32 bytes, base64: signs every object. */
  signer: string
  createdAt: string
}

/** What the plaintext header of every sealed object says; all of it is authenticated by signature and by the data key. */
export interface SealedHeader {
  format: typeof formatVersion
  repositoryId: string
  /** Where the object belongs: an object found under another key is refused. */
  object: string
  kind: SealedKind
  /** Id of the data key, as in `keys/<id>/`. */
  dataKey: string
  /** 32 random bytes, base64: with the data key they give the key of this object alone. */
  salt: string
  compression: 'zstd' | 'none'
  /** Facts that verify needs without a key; by kind. */
  facts: SealedFacts
}

export type SealedKind = 'wal' | 'wal-tail' | 'history' | 'pack' | 'manifest' | 'files'

export type SealedFacts = WalFacts | HistoryFacts | PackFacts | Record<string, never>

/** For `wal` and `wal-tail`. */
export interface WalFacts {
  systemIdentifier: string
  timeline: number
  segment: string
  segmentBytes: number
  /** LSN text: what the object holds is [start, end). A whole segment unless it is a tail. */
  start: string
  end: string
  /** For a whole segment: how far its records go, when it was closed by a timeline switch. */
  closedBySwitch?: boolean
}

export interface HistoryFacts {
  systemIdentifier: string
  timeline: number
  /** Of the history file, oldest first: each timeline ended at this LSN (text), and the next one began there. */
  parents: { timeline: number; end: string }[]
  /** The history file itself, unless it is long or no UTF-8: whoever follows timelines needs no key of an older chain. */
  text?: string
}

/** A run of one tar archive of a base backup. */
export interface PackFacts {
  backupId: string
  archive: string
  /** Of its first byte in the raw archive. How many there are, its frames say. */
  offset: number
}

/** `backups/<id>/COMPLETE`: plain JSON, signed, the last object of a backup. Without it there is no backup. */
export interface BackupMarker {
  format: typeof formatVersion
  repositoryId: string
  id: string
  kind: BackupKind
  label?: string
  program: string
  startedAt: string
  finishedAt: string
  database?: DatabaseFacts
  files?: { count: number; bytes: number; object: string }
  /** Every object of the backup except this one and the keys. */
  objects: ObjectFacts[]
  /** Data keys that its objects need. */
  dataKeys: string[]
  rawBytes: number
  storedBytes: number
}

export interface ObjectFacts {
  key: string
  bytes: number
  /** Hex, of the whole stored object. */
  sha256: string
}

export interface DatabaseFacts {
  systemIdentifier: string
  /** Such as 180004. */
  serverVersion: number
  segmentBytes: number
  timeline: number
  /** LSN text. Consistent from `stop` on; WAL is needed from `start`'s segment. */
  start: string
  stop: string
  stopTimeline: number
  /** Database server's clock, RFC 3339: when the backup began and ended. Restores to a time before `stopTime` cannot use it. */
  startTime: string
  stopTime: string
  checksums: boolean
  manifestObject: string
  archives: ArchiveFacts[]
}

/** A backup that holds a database. */
export type DatabaseBackup = BackupMarker & { database: DatabaseFacts }

export interface ArchiveFacts {
  /** `base`, or the oid of a tablespace. */
  name: string
  /** Absolute path of the tablespace on the server. */
  path?: string
  rawBytes: number
  /** Object keys, in order. */
  packs: string[]
}

/** What the sealed `backups/<id>/manifest` holds, as JSON. */
export interface BackupManifest {
  format: typeof formatVersion
  /** The server's backup_manifest, byte for byte, base64. */
  serverManifest: string
  /** Every file of every archive, in the order of the stream. `offset` is of its first content byte in the raw archive. */
  files: { archive: string; path: string; bytes: number; offset: number }[]
  /** Values of settings that a restore needs or reports: server_version, data_checksums, block_size, lc_collate, ... */
  settings: Record<string, string>
}

/** `points/<name>`: plain JSON, signed. */
export interface RestorePoint {
  format: typeof formatVersion
  repositoryId: string
  name: string
  systemIdentifier: string
  timeline: number
  lsn: string
  at: string
}

/** `pins/<backupId>`: a backup that prune leaves alone. Plain JSON, signed. */
export interface Pin {
  format: typeof formatVersion
  repositoryId: string
  backupId: string
  reason: string
  at: string
}

/** `reports/<kind>/<time>-<id>`: plain JSON, signed: what a drill or a verify found. */
export interface DrillReport {
  format: typeof formatVersion
  repositoryId: string
  kind: 'drill'
  id: string
  backupId: string
  startedAt: string
  finishedAt: string
  ok: boolean
  /** Seconds until the restored server answered with everything replayed. */
  rtoSeconds: number
  /** Age of the newest canary that came back, measured at the moment the drill began. */
  rpoSeconds?: number
  restoredBytes: number
  megabytesPerSecond: number
  replayedSegments: number
  /** LSN text. */
  replayedTo?: string
  steps: DrillStep[]
}

/** What a check of the repository found, and what was there, so that the next check sees what has gone. */
export interface VerifyReport {
  format: typeof formatVersion
  repositoryId: string
  kind: 'verify'
  id: string
  startedAt: string
  finishedAt: string
  ok: boolean
  /** sealed needs no key: hashes, signatures, continuity. opened decrypts everything. */
  mode: 'sealed' | 'opened'
  /** Backups of which every object was read, with all WAL they need. */
  wholeBackups: string[]
  /** How far the log of each timeline goes without a hole, LSN text. */
  walThrough: { systemIdentifier: string; timeline: number; end: string }[]
  faults: VerifyFault[]
  objects: number
  readBytes: number
  megabytesPerSecond: number
  /** Small objects that are written once and stay: key and hex SHA-256. */
  inventory: [key: string, sha256: string][]
}

export interface VerifyFault {
  object: string
  problem: 'damaged' | 'missing' | 'unreadable'
  reason: string
}

/** What pruning, or an operator, took out of the repository. */
export interface RemovalReport {
  format: typeof formatVersion
  repositoryId: string
  kind: 'removal'
  id: string
  at: string
  by: string
  reason: string
  backups: string[]
  /** Objects other than those of the backups above and WAL. */
  objects: string[]
  walRemoved: { systemIdentifier: string; before: string; segments: number }[]
  freedBytes: number
}

export interface DrillStep {
  name: string
  ok: boolean
  seconds: number
  detail: string
}
