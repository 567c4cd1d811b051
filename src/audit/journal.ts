import { randomBytes } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import { type Clock, systemClock } from '#lib/clock.ts'
import type { Home } from '#lib/home.ts'
import { inTransaction, openState } from '#lib/state.ts'
import { auditError } from './errors.ts'
import {
  type AuditEvent,
  canonicalJson,
  cleanEvent,
  firstPreviousHash,
  hashEvent,
  type RecordedEvent,
} from './event.ts'

export interface JournalOptions {
  home: Home
  /** File name in <home>/state, without ending. */
  name?: string
  clock?: Clock
}

export type Verdict =
  | { whole: true; events: number; lastHash: string }
  | { whole: false; sequence: number; problem: string }

// The name tells journals apart in the database, also those of two homes: a journal is born with it and keeps it.
const migrations = [
  `CREATE TABLE journal (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), source TEXT NOT NULL) STRICT;
   CREATE TABLE events (
     sequence      INTEGER NOT NULL PRIMARY KEY CHECK (sequence >= 1),
     recorded_at   TEXT    NOT NULL,
     actor         TEXT    NOT NULL,
     action        TEXT    NOT NULL,
     target        TEXT    NOT NULL,
     detail        TEXT    NOT NULL,
     previous_hash TEXT    NOT NULL,
     hash          TEXT    NOT NULL
   ) STRICT;
   CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
   CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
   -- REPLACE would delete without asking the trigger above.
   CREATE TRIGGER events_no_replace BEFORE INSERT ON events
     WHEN EXISTS (SELECT 1 FROM events WHERE sequence = NEW.sequence)
     BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
   CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'a journal keeps its name'); END;
   CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'a journal keeps its name'); END;`,
]

const columns =
  'sequence, recorded_at AS recordedAt, actor, action, target, detail, previous_hash AS previousHash, hash'

/**
 * Who did what, in a file that works while PostgreSQL is down. Append-only, each event holds the hash of the one
 * before, and several processes may write it at once. Whoever can write the file can replace it whole; the copy in
 * PostgreSQL then tells.
 */
export class Journal {
  readonly source: string
  readonly #database: DatabaseSync
  readonly #clock: Clock
  readonly #listeners = new Set<() => void>()
  readonly #last
  readonly #insert

  constructor(options: JournalOptions) {
    const name = options.name ?? 'audit'
    this.#clock = options.clock ?? systemClock
    this.#database = openState({ home: options.home, name, migrations })
    this.source = sourceOf(this.#database, name)
    this.#last = this.#database.prepare('SELECT sequence, hash FROM events ORDER BY sequence DESC LIMIT 1')
    this.#insert = this.#database.prepare(
      `INSERT INTO events (sequence, recorded_at, actor, action, target, detail, previous_hash, hash)
       VALUES ($sequence, $recordedAt, $actor, $action, $target, $detail, $previousHash, $hash)`,
    )
  }

  /**
   * Durable when it returns. Texts are cut and secrets masked rather than refused: what was done is written down.
   * @throws AUDIT_UNAVAILABLE.
   */
  record(event: AuditEvent): RecordedEvent {
    try {
      const recorded = this.#append(cleanEvent(event))
      for (const listener of this.#listeners) listener()
      return recorded
    } catch (error) {
      if ((error as NodeJS.ErrnoException | null)?.code !== 'ERR_SQLITE_ERROR') throw error
      throw auditError('AUDIT_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause: error })
    }
  }

  /** 0 when nothing was recorded yet. */
  lastSequence(): number {
    return Number(this.#last.get()?.sequence ?? 0)
  }

  /** Events that follow `sequence`, oldest first, at most `limit`. */
  after(sequence: number, limit: number): RecordedEvent[] {
    const rows = this.#database
      .prepare(`SELECT ${columns} FROM events WHERE sequence > $sequence ORDER BY sequence LIMIT $limit`)
      .all({ sequence, limit })
    return rows.map(row => ({ ...row, detail: JSON.parse(String(row.detail)) })) as unknown as RecordedEvent[]
  }

  /** Walks the whole chain and names the first event that does not fit. */
  verify(): Verdict {
    let lastHash = firstPreviousHash
    let expected = 1
    for (const row of this.#database.prepare(`SELECT ${columns} FROM events ORDER BY sequence`).iterate()) {
      const problem = findFault(row as unknown as StoredEvent, expected, lastHash)
      if (problem !== undefined) return { whole: false, sequence: expected, problem }
      lastHash = String(row.hash)
      expected++
    }
    return { whole: true, events: expected - 1, lastHash }
  }

  /** Called after each record of this process. Returns the undo. */
  onRecord(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.#database.close()
  }

  #append(event: AuditEvent): RecordedEvent {
    // Under the write lock nobody else can take the same number or the same predecessor.
    return inTransaction(this.#database, () => {
      const last = this.#last.get() as { sequence: number; hash: string } | undefined
      const unsigned = {
        ...event,
        sequence: (last?.sequence ?? 0) + 1,
        recordedAt: this.#clock.now().toISOString(),
        previousHash: last?.hash ?? firstPreviousHash,
      }
      const whole = { ...unsigned, hash: hashEvent(unsigned) }
      this.#insert.run({ ...whole, detail: canonicalJson(whole.detail) })
      return whole
    })
  }
}

/** As stored: detail is JSON text. */
type StoredEvent = Omit<RecordedEvent, 'detail'> & { detail: string }

function findFault(row: StoredEvent, expected: number, lastHash: string): string | undefined {
  if (row.sequence !== expected) return `it is missing; the next one is ${row.sequence}`
  if (row.previousHash !== lastHash) return 'it does not follow the event before it'
  try {
    return hashEvent({ ...row, detail: JSON.parse(row.detail) }) === row.hash ? undefined : 'it was changed'
  } catch {
    return 'its detail is not JSON'
  }
}

function sourceOf(database: DatabaseSync, name: string): string {
  const read = () => database.prepare('SELECT source FROM journal').get()?.source
  const known = read()
  if (known !== undefined) return String(known)
  database
    .prepare('INSERT INTO journal (only_row, source) VALUES (1, $source) ON CONFLICT DO NOTHING')
    .run({ source: `${name}-${randomBytes(8).toString('hex')}` })
  return String(read())
}
