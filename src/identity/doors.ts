import type { FastifyRequest } from 'fastify'
import { commonFailure } from '#lib/errors.ts'
import type { OperatorRole } from './operator-store.ts'
import { mayActAs, type Operator, type Operators } from './operators.ts'
import type { Player, Session, Sessions } from './sessions.ts'

/** What of a request says who sends it; @fastify/cookie fills in the cookies. */
export type Caller = Pick<FastifyRequest, 'headers' | 'cookies'>

/** Cookie names and attributes. Secure follows the public address that the operator set, never the Host header. */
export interface CookieRules {
  player: string
  operator: string
  attributes: { httpOnly: true; sameSite: 'strict'; path: '/'; secure: boolean }
}

/** On https the names start with __Host-: no other host of the domain and no plain-HTTP answer can set them. */
export function cookieRules(publicUrl: string | undefined): CookieRules {
  const secure = publicUrl?.startsWith('https:') ?? false
  const prefix = secure ? '__Host-' : ''
  return {
    player: `${prefix}moonyetis_session`,
    operator: `${prefix}moonyetis_operator`,
    attributes: { httpOnly: true, sameSite: 'strict', path: '/', secure },
  }
}

/** RFC 6750, section 2.1; the scheme's case does not matter. */
const bearer = /^Bearer +([A-Za-z0-9._~+/-]+=*) *$/i

/** The token that a request carries: its Authorization header when there is one, else the cookie of that name. */
export function credentialOf(request: Caller, cookieName: string): string | undefined {
  const { authorization } = request.headers
  // A header that is no bearer token counts as no token: falling back to the cookie would act as somebody else.
  if (authorization !== undefined) return bearer.exec(authorization)?.[1]
  return request.cookies?.[cookieName]
}

/** The checks at the doors of all routes: who is it, and may they. */
export class Doors {
  readonly #sessions: Pick<Sessions, 'peek' | 'find'>
  readonly #operators: Pick<Operators, 'authenticate'>
  readonly cookies: CookieRules

  constructor(o: {
    sessions: Pick<Sessions, 'peek' | 'find'>
    operators: Pick<Operators, 'authenticate'>
    publicUrl?: string
  }) {
    this.#sessions = o.sessions
    this.#operators = o.operators
    this.cookies = cookieRules(o.publicUrl)
  }

  /** The player, when the session was verified a moment ago; asks nobody. */
  peekPlayer(request: Caller): Player | undefined {
    const token = credentialOf(request, this.cookies.player)
    return token === undefined ? undefined : this.#sessions.peek(token)
  }

  /** The player who sends this; undefined without a session. @throws DATABASE_UNAVAILABLE, IDENTITY_BUSY. */
  async currentPlayer(request: Caller): Promise<Player | undefined> {
    return (await this.currentSession(request))?.player
  }

  async currentSession(request: Caller): Promise<Session | undefined> {
    const token = credentialOf(request, this.cookies.player)
    return token === undefined ? undefined : this.#sessions.find(token)
  }

  /** As currentPlayer. @throws UNAUTHENTICATED without a session. */
  async requirePlayer(request: Caller): Promise<Player> {
    const player = await this.currentPlayer(request)
    if (player === undefined) throw commonFailure('UNAUTHENTICATED')
    return player
  }

  /** The operator who sends this, by operator cookie or bearer operator token. @throws IDENTITY_STORE_UNAVAILABLE. */
  currentOperator(request: Caller): Operator | undefined {
    const credential = credentialOf(request, this.cookies.operator)
    return credential === undefined ? undefined : this.#operators.authenticate(credential)
  }

  /** @throws UNAUTHENTICATED without an operator, FORBIDDEN without the role. */
  requireOperator(request: Caller, needed: OperatorRole): Operator {
    const operator = this.currentOperator(request)
    if (operator === undefined) throw commonFailure('UNAUTHENTICATED')
    if (!mayActAs(operator.role, needed)) throw commonFailure('FORBIDDEN')
    return operator
  }

  /** A Fastify onRequest hook that lets only operators of this role through, before the body is read. */
  requireRole(needed: OperatorRole): (request: Caller) => Promise<void> {
    return async request => {
      this.requireOperator(request, needed)
    }
  }
}
