import type { FastifyReply } from 'fastify'
import Type from 'typebox'
import { chipsSchema, describe, timeSchema } from '#http/schemas.ts'
import type { RoutePlugin } from '#http/types.ts'
import { commonFailure } from '#lib/errors.ts'
import { type Caller, credentialOf, type Doors } from './doors.ts'
import { identityError } from './errors.ts'
import type { Operators } from './operators.ts'
import type { Players } from './players.ts'
import type { Sessions } from './sessions.ts'

export interface IdentityRoutesOptions {
  sessions: Pick<Sessions, 'end'>
  players: Pick<Players, 'openDemoPlayer' | 'balance'>
  operators: Pick<Operators, 'signIn' | 'signOut'>
  doors: Doors
  config: { sessionHours: number; operatorSessionHours: number }
}

const playerSchema = Type.Object({
  id: Type.String({ pattern: '^[1-9][0-9]*$', description: 'Player id as a digit string.' }),
  kind: Type.Union([Type.Literal('demo'), Type.Literal('wallet')], {
    description: 'demo plays with play money, wallet with chips that were paid for.',
  }),
  address: Type.Optional(Type.String({ description: 'Address of a wallet player.' })),
  balance: chipsSchema,
})

const operatorSchema = Type.Object({
  id: Type.String({ description: 'Id of the operator token, as in `token list`.' }),
  role: Type.Union([Type.Literal('admin'), Type.Literal('operator'), Type.Literal('metrics')], {
    description: 'admin may do all, operator also reads metrics.',
  }),
  label: Type.String({ description: 'What the token was made for.' }),
})

const tags = ['auth']

/** POST /api/auth/demo, logout, operator and GET /api/auth/session. */
export const identityRoutes: RoutePlugin<IdentityRoutesOptions> = async (app, options) => {
  const { sessions, players, operators, doors, config } = options
  const { cookies } = doors

  app.post('/api/auth/demo', { schema: demoSchema, onRequest: refuseCrossSite }, async (_request, reply) => {
    const { token, playerId, kind, balance } = await players.openDemoPlayer()
    setCookie(reply, cookies.player, token, config.sessionHours)
    return { token, player: { id: String(playerId), kind, balance: String(balance) } }
  })

  app.get('/api/auth/session', { schema: sessionSchema }, async request => {
    const session = await doors.currentSession(request)
    if (session === undefined) throw commonFailure('UNAUTHENTICATED')
    const { playerId, accountId, kind, address } = session.player
    const balance = String(await players.balance(accountId))
    const player = { id: String(playerId), kind, ...(address === undefined ? {} : { address }), balance }
    return { player, expiresAt: session.expiresAt.toISOString() }
  })

  app.post(
    '/api/auth/logout',
    { schema: logoutSchema, onRequest: refuseCrossSite },
    async (request, reply) => {
      const operatorSession = credentialOf(request, cookies.operator)
      if (operatorSession !== undefined) operators.signOut(operatorSession)
      // The cookies stay when the database is away: only with them can the same request end the session later.
      const token = credentialOf(request, cookies.player)
      if (token !== undefined) await sessions.end(token)
      for (const name of [cookies.player, cookies.operator]) reply.clearCookie(name, cookies.attributes)
      reply.code(204)
      return null
    },
  )

  app.post(
    '/api/auth/operator',
    { schema: signInSchema, onRequest: refuseCrossSite },
    async (request, reply) => {
      const { operator, session, expiresAt } = operators.signIn(request.body.token, request.ip)
      setCookie(reply, cookies.operator, session, config.operatorSessionHours)
      return { operator, expiresAt: expiresAt.toISOString() }
    },
  )

  function setCookie(
    reply: Pick<FastifyReply, 'setCookie'>,
    name: string,
    value: string,
    hours: number,
  ): void {
    reply.setCookie(name, value, { ...cookies.attributes, maxAge: hours * 60 * 60 })
  }
}

/**
 * SameSite=Strict keeps our cookies out of other sites' requests, but not other sites' forms from planting a cookie
 * here. A form without a body needs no JSON content type; every browser of today marks it with this header, though.
 */
async function refuseCrossSite(request: Caller): Promise<void> {
  if (request.headers['sec-fetch-site'] === 'cross-site') throw identityError('IDENTITY_CROSS_SITE')
}

const demoSchema = describe({
  summary: 'Become a new play-money player',
  description:
    'Opens a player with 1,000,000 play chips, signed in: same game, same odds. The session is in the cookie and in `token`, for `Authorization: Bearer`. On the simulated chain only.',
  tags,
  response: {
    200: Type.Object({
      token: Type.String({ pattern: '^myp_', description: 'Session token; shown once.' }),
      player: playerSchema,
    }),
  },
  problems: {
    403: 'Not on the simulated chain (IDENTITY_DEMO_OFF), or sent by another site (IDENTITY_CROSS_SITE).',
  },
})

const sessionSchema = describe({
  summary: 'Who am I',
  description: 'The player of the session cookie or bearer token.',
  tags,
  response: { 200: Type.Object({ player: playerSchema, expiresAt: timeSchema }) },
  session: 'player',
  problems: { 401: 'There is no such session (UNAUTHENTICATED).' },
})

const logoutSchema = describe({
  summary: 'Sign out',
  description:
    'Ends the player and operator sessions that the request carries, on every server, and clears the cookies. Without a session it does nothing.',
  tags,
  response: { 204: Type.Null({ description: 'Signed out.' }) },
  problems: { 403: 'Sent by another site (IDENTITY_CROSS_SITE).' },
})

const signInSchema = {
  ...describe({
    summary: 'Sign in as operator',
    description: 'Exchanges an operator token for the operator cookie. Works while the database is down.',
    tags,
    response: { 200: Type.Object({ operator: operatorSchema, expiresAt: timeSchema }) },
    problems: {
      401: 'The token is not known, has ended or was revoked (IDENTITY_TOKEN_REFUSED).',
      403: 'Sent by another site (IDENTITY_CROSS_SITE).',
    },
  }),
  body: Type.Object({
    token: Type.String({
      minLength: 1,
      maxLength: 200,
      description: 'Operator token, as `token create` printed it.',
    }),
  }),
}
