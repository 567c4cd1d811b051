import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type Clock, systemClock } from '#lib/clock.ts'
import { ensureSecret, type Home } from '#lib/home.ts'
import { identityError } from './errors.ts'
import type { IdentityMetrics } from './metrics.ts'
import { type OperatorRole, OperatorStore, type TokenRow } from './operator-store.ts'
import { type AuditTrail, RefusalRecorder } from './refusals.ts'
import { fitsHash, hashBytes, keyOf, newKeyedToken } from './tokens.ts'

export interface Operator {
  /** Of the token; sessions share it. */
  id: string
  role: OperatorRole
  label: string
}

export interface TokenInfo extends Operator {
  createdAt: Date
  expiresAt?: Date
  revokedAt?: Date
  state: 'active' | 'ended' | 'revoked'
}

export interface OperatorsOptions {
  home: Home
  audit: AuditTrail
  config: { operatorSessionHours: number }
  /** Counts sign-ins; the command line has none. */
  metrics?: Pick<IdentityMetrics, 'operatorAccepted' | 'operatorRefused'>
  clock?: Clock
}

// Far above what people need; keeps a script in a loop from filling the file.
const tokenLimit = 1_000
const dayMs = 24 * 60 * 60 * 1000

const rank: Record<OperatorRole, number> = { metrics: 0, operator: 1, admin: 2 }

/** Whether a role may do what is open to another one: admin may all, operator also reads metrics. */
export function mayActAs(role: OperatorRole, needed: OperatorRole): boolean {
  return rank[role] >= rank[needed]
}

/** Operator tokens and the sessions made from them; works while PostgreSQL is down. */
export class Operators {
  readonly #o: OperatorsOptions
  readonly #clock: Clock
  readonly #store: OperatorStore
  readonly #refusals: RefusalRecorder

  constructor(options: OperatorsOptions) {
    this.#o = options
    this.#clock = options.clock ?? systemClock
    this.#store = new OperatorStore(options.home)
    this.#refusals = new RefusalRecorder(options.audit, this.#clock)
  }

  /** The token is in the answer and nowhere else. @throws IDENTITY_TOKENS_FULL. */
  createToken(o: { role: OperatorRole; label?: string; days?: number; actor: string }): Operator & {
    token: string
    createdAt: Date
    expiresAt?: Date
  } {
    const { role, label = '', days, actor } = o
    const createdAt = this.#clock.now()
    const count = this.#store.countInForce(createdAt.getTime())
    if (count >= tokenLimit) throw identityError('IDENTITY_TOKENS_FULL', { count })
    const expiresMs = days === undefined ? null : createdAt.getTime() + days * dayMs
    const { id, token, hash } = newKeyedToken('myo')
    // The journal first: what is written there and then fails does less harm than an act that nobody wrote down.
    this.#record(actor, 'token.created', id, { role, label, ...(days === undefined ? {} : { days }) })
    const isNew = this.#store.insertToken({
      id,
      hash,
      role,
      label,
      createdMs: createdAt.getTime(),
      expiresMs,
    })
    assert(isNew, 'two random token ids are never the same')
    return {
      id,
      role,
      label,
      token,
      createdAt,
      ...(expiresMs === null ? {} : { expiresAt: new Date(expiresMs) }),
    }
  }

  /** Newest first, ended and revoked ones included. */
  listTokens(): TokenInfo[] {
    const nowMs = this.#nowMs()
    return this.#store.listTokens().map(row => tokenInfo(row, nowMs))
  }

  /** Ends a token and its sessions; repeating it is harmless. @throws IDENTITY_TOKEN_UNKNOWN. */
  revokeToken(id: string, actor: string): TokenInfo {
    const find = () => this.listTokens().find(token => token.id === id)
    const token = find()
    if (token === undefined) throw identityError('IDENTITY_TOKEN_UNKNOWN', { id })
    if (token.revokedAt !== undefined) return token
    this.#record(actor, 'token.revoked', id, { role: token.role, label: token.label })
    this.#store.revokeToken(id, this.#nowMs())
    return find() as TokenInfo
  }

  /**
   * Makes the first admin token in .secrets/admin_token and believes it. Never again once there was an admin token:
   * removing the file is how its owner says that the token is kept elsewhere. Returns whether it was made known now.
   */
  ensureAdminToken(): boolean {
    if (this.#store.hadAdminToken()) return false
    const { home } = this.#o
    const token = ensureSecret(home, 'admin_token', () => newKeyedToken('myo').token)
    const id = keyOf('myo', token)
    const path = join(home.secrets, 'admin_token')
    if (id === undefined) throw identityError('IDENTITY_ADMIN_TOKEN_UNUSABLE', { path })
    const label = 'first start'
    this.#record('system', 'token.created', id, { role: 'admin', label })
    return this.#store.insertToken({
      id,
      hash: hashBytes(token),
      role: 'admin',
      label,
      createdMs: this.#nowMs(),
      expiresMs: null,
    })
  }

  /** Exchanges a token for a session. `from` is the client's address. @throws IDENTITY_TOKEN_REFUSED. */
  signIn(token: string, from: string): { operator: Operator; session: string; expiresAt: Date } {
    const operator = this.#byToken(token)
    if (operator === undefined) {
      this.#o.metrics?.operatorRefused.inc()
      this.#refusals.record(keyOf('myo', token) ?? 'no token', from)
      throw identityError('IDENTITY_TOKEN_REFUSED')
    }
    this.#record(`operator:${operator.id}`, 'operator.signed_in', operator.id, { from, role: operator.role })
    const session = newKeyedToken('mys')
    const nowMs = this.#nowMs()
    const expiresMs = nowMs + this.#o.config.operatorSessionHours * 60 * 60 * 1000
    this.#store.insertSession({ id: session.id, hash: session.hash, tokenId: operator.id, nowMs, expiresMs })
    this.#o.metrics?.operatorAccepted.inc()
    return { operator, session: session.token, expiresAt: new Date(expiresMs) }
  }

  /** Ends a session; anything that is none is left alone. */
  signOut(session: string): void {
    const id = keyOf('mys', session)
    if (id !== undefined && this.#bySession(session) !== undefined) this.#store.deleteSession(id)
  }

  /** The operator behind a token (myo_) or a session (mys_); undefined when it is not in force. */
  authenticate(credential: string): Operator | undefined {
    return this.#byToken(credential) ?? this.#bySession(credential)
  }

  close(): void {
    this.#store.close()
  }

  #byToken(token: string): Operator | undefined {
    const id = keyOf('myo', token)
    return id === undefined ? undefined : proven(token, this.#store.findToken(id, this.#nowMs()))
  }

  #bySession(session: string): Operator | undefined {
    const id = keyOf('mys', session)
    return id === undefined ? undefined : proven(session, this.#store.findSession(id, this.#nowMs()))
  }

  #record(actor: string, action: string, target: string, detail: Record<string, string | number>): void {
    this.#o.audit.record({ actor, action, target, detail })
  }

  #nowMs(): number {
    return this.#clock.now().getTime()
  }
}

function proven(text: string, found: (Operator & { hash: Uint8Array }) | undefined): Operator | undefined {
  if (found === undefined || !fitsHash(text, found.hash)) return undefined
  return { id: found.id, role: found.role, label: found.label }
}

function tokenInfo(row: TokenRow, nowMs: number): TokenInfo {
  const ended = row.expiresMs !== null && row.expiresMs <= nowMs
  return {
    id: row.id,
    role: row.role,
    label: row.label,
    createdAt: new Date(row.createdMs),
    ...(row.expiresMs === null ? {} : { expiresAt: new Date(row.expiresMs) }),
    ...(row.revokedMs === null ? {} : { revokedAt: new Date(row.revokedMs) }),
    state: row.revokedMs !== null ? 'revoked' : ended ? 'ended' : 'active',
  }
}
