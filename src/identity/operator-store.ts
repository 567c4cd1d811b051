import type { DatabaseSync } from 'node:sqlite'
import type { Home } from '#lib/home.ts'
import { inTransaction, openState } from '#lib/state.ts'
import { identityError } from './errors.ts'

/** Each role may do what those after it may. */
export const operatorRoles = ['admin', 'operator', 'metrics'] as const
export type OperatorRole = (typeof operatorRoles)[number]

export interface TokenRow {
  id: string
  role: OperatorRole
  label: string
  createdMs: number
  /** null: never ends by itself. */
  expiresMs: number | null
  revokedMs: number | null
}

/** A token or session that is in force, with what proves it. */
export interface Credential {
  id: string
  role: OperatorRole
  label: string
  hash: Uint8Array
}

const migrations = [
  `CREATE TABLE tokens (
     id         TEXT    NOT NULL PRIMARY KEY,
     hash       BLOB    NOT NULL,
     role       TEXT    NOT NULL CHECK (role IN ('admin', 'operator', 'metrics')),
     label      TEXT    NOT NULL,
     created_ms INTEGER NOT NULL,
     expires_ms INTEGER,
     revoked_ms INTEGER
   ) STRICT;
   CREATE TABLE sessions (
     id         TEXT    NOT NULL PRIMARY KEY,
     hash       BLOB    NOT NULL,
     token_id   TEXT    NOT NULL REFERENCES tokens (id),
     created_ms INTEGER NOT NULL,
     expires_ms INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX sessions_token_id ON sessions (token_id, created_ms);`,
]

// A person signs in on a few devices; beyond this the oldest session ends.
const sessionsPerToken = 50

const inForce = 't.revoked_ms IS NULL AND (t.expires_ms IS NULL OR t.expires_ms > $now)'

/**
 * Operator tokens and sessions in <home>/state/operators.sqlite, which the command line and `serve` open side by side.
 * Nothing is cached: what one of them writes the other sees at once. Times are wall milliseconds of this machine.
 * Any trouble with the file is IDENTITY_STORE_UNAVAILABLE, never "no such token".
 */
export class OperatorStore {
  readonly #database: DatabaseSync
  readonly #findToken
  readonly #findSession

  constructor(home: Home) {
    this.#database = openState({ home, name: 'operators', migrations })
    this.#findToken = this.#database.prepare(
      `SELECT t.id, t.role, t.label, t.hash FROM tokens t WHERE t.id = $id AND ${inForce}`,
    )
    this.#findSession = this.#database.prepare(
      `SELECT t.id, t.role, t.label, s.hash FROM sessions s JOIN tokens t ON t.id = s.token_id
       WHERE s.id = $id AND s.expires_ms > $now AND ${inForce}`,
    )
  }

  findToken(id: string, nowMs: number): Credential | undefined {
    return stored(() => this.#findToken.get({ id, now: nowMs })) as Credential | undefined
  }

  /** The session's secret with its token's id, role and label; a token that ended takes its sessions along. */
  findSession(id: string, nowMs: number): Credential | undefined {
    return stored(() => this.#findSession.get({ id, now: nowMs })) as Credential | undefined
  }

  /** Newest first. */
  listTokens(): TokenRow[] {
    return stored(() =>
      this.#database
        .prepare(
          `SELECT id, role, label, created_ms AS createdMs, expires_ms AS expiresMs, revoked_ms AS revokedMs
           FROM tokens ORDER BY created_ms DESC, id`,
        )
        .all(),
    ) as unknown as TokenRow[]
  }

  countInForce(nowMs: number): number {
    const row = stored(() =>
      this.#database.prepare(`SELECT count(*) AS count FROM tokens t WHERE ${inForce}`).get({ now: nowMs }),
    )
    return Number(row?.count)
  }

  /** Whether there ever was an admin token, revoked ones included. */
  hadAdminToken(): boolean {
    const find = "SELECT 1 FROM tokens WHERE role = 'admin' LIMIT 1"
    return stored(() => this.#database.prepare(find).get()) !== undefined
  }

  /** False when there is a token of this id already. */
  insertToken(token: Omit<TokenRow, 'revokedMs'> & { hash: Uint8Array }): boolean {
    const { changes } = stored(() =>
      this.#database
        .prepare(
          `INSERT INTO tokens (id, hash, role, label, created_ms, expires_ms)
           VALUES ($id, $hash, $role, $label, $createdMs, $expiresMs) ON CONFLICT DO NOTHING`,
        )
        .run({ ...token }),
    )
    return Number(changes) === 1
  }

  /** Ends the token and its sessions. */
  revokeToken(id: string, nowMs: number): void {
    stored(() =>
      inTransaction(this.#database, () => {
        this.#database
          .prepare('UPDATE tokens SET revoked_ms = $now WHERE id = $id AND revoked_ms IS NULL')
          .run({ id, now: nowMs })
        this.#database.prepare('DELETE FROM sessions WHERE token_id = $id').run({ id })
      }),
    )
  }

  /** Also clears away ended sessions and the token's oldest ones beyond the bound. */
  insertSession(session: {
    id: string
    hash: Uint8Array
    tokenId: string
    nowMs: number
    expiresMs: number
  }): void {
    const { nowMs, ...row } = session
    stored(() =>
      inTransaction(this.#database, () => {
        this.#database.prepare('DELETE FROM sessions WHERE expires_ms <= $now').run({ now: nowMs })
        this.#database
          .prepare(
            `DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE token_id = $tokenId
             ORDER BY created_ms DESC, id LIMIT -1 OFFSET ${sessionsPerToken - 1})`,
          )
          .run({ tokenId: row.tokenId })
        this.#database
          .prepare(
            `INSERT INTO sessions (id, hash, token_id, created_ms, expires_ms)
             VALUES ($id, $hash, $tokenId, $createdMs, $expiresMs)`,
          )
          .run({ ...row, createdMs: nowMs })
      }),
    )
  }

  deleteSession(id: string): void {
    stored(() => this.#database.prepare('DELETE FROM sessions WHERE id = $id').run({ id }))
  }

  close(): void {
    this.#database.close()
  }
}

function stored<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if ((error as NodeJS.ErrnoException | null)?.code !== 'ERR_SQLITE_ERROR') throw error
    throw identityError('IDENTITY_STORE_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause: error })
  }
}
