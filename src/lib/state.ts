import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { libFailure } from './errors.ts'
import { adoptOwner, type Home } from './home.ts'

export interface StateOptions {
  home: Home
  /** File name without ending; one file per role or pillar. */
  name: string
  /** SQL texts in order, forward only: entry n brings user_version from n to n + 1. */
  migrations: readonly string[]
}

/**
 * Opens <home>/state/NAME.sqlite for what must work while PostgreSQL is down. WAL with synchronous FULL: a committed
 * transaction survives a power cut. Throws STATE_UNUSABLE when the file is damaged or from a newer version.
 */
export function openState(options: StateOptions): DatabaseSync {
  const path = join(options.home.state, `${options.name}.sqlite`)
  let database: DatabaseSync | undefined
  try {
    database = openPrivately(path)
    // busy_timeout comes first: switching to WAL and migrating both wait for another process that does the same.
    database.exec(
      'PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON',
    )
    adoptOwner(path)
    migrate(database, path, options.migrations)
    return database
  } catch (error) {
    database?.close()
    if (isSqliteError(error))
      throw libFailure('STATE_UNUSABLE', { path, reason: error.message }, { cause: error })
    throw error
  }
}

/** Runs `work` in one immediate transaction; an exception rolls it back and rises. */
export function inTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const value = work()
    database.exec('COMMIT')
    return value
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function migrate(database: DatabaseSync, path: string, migrations: readonly string[]): void {
  if (version(database) === migrations.length) return
  inTransaction(database, () => {
    // Read again under the lock: another process may have migrated meanwhile.
    const from = version(database)
    if (from > migrations.length) {
      const reason = `it is at version ${from}, this program knows ${migrations.length}`
      throw libFailure('STATE_UNUSABLE', { path, reason })
    }
    for (const sql of migrations.slice(from)) database.exec(sql)
    database.exec(`PRAGMA user_version = ${migrations.length}`)
  })
}

function version(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.user_version)
}

// SQLite gives its side files the mode of the database file, so 0600 here holds for all three.
function openPrivately(path: string): DatabaseSync {
  const umaskBefore = process.umask(0o177)
  try {
    return new DatabaseSync(path)
  } finally {
    process.umask(umaskBefore)
  }
}

function isSqliteError(error: unknown): error is Error {
  return (error as NodeJS.ErrnoException | null)?.code === 'ERR_SQLITE_ERROR'
}
