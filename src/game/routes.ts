import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import { describe } from '#http/schemas.ts'
import { type RoutePlugin, sendJson } from '#http/types.ts'
import { readIdempotencyKey } from '#ledger/keys.ts'
import { gameError } from './errors.ts'
import { type Leaderboard, leaderboardPeriods } from './leaderboard.ts'
import type { Rotation } from './rotation.ts'
import type { Rounds } from './rounds.ts'
import {
  clientSeedSchema,
  gameConfigSchema,
  leaderboardSchema,
  linesSchema,
  retiredSeedsSchema,
  rotatedSchema,
  roundPageSchema,
  roundSchema,
  seedsSchema,
  spinAnswerSchema,
  stakePerLineSchema,
  verificationSchema,
} from './route-schemas.ts'
import type { SeedStatus } from './seed-status.ts'
import type { Spins } from './spins.ts'
import { verify } from './verify.ts'
import { gameConfig } from './version.ts'

/** Who is asking; a role hands it in. Answers at once when the session was verified a moment ago. */
export interface SignedIn {
  /** @throws UNAUTHENTICATED (401); a store failure is 503. */
  player(request: FastifyRequest): { accountId: bigint } | Promise<{ accountId: bigint }>
}

export interface GameRoutes {
  spins: Spins
  rotation: Rotation
  rounds: Rounds
  leaderboard: Leaderboard
  seeds: SeedStatus
  signedIn: SignedIn
}

declare module 'fastify' {
  interface FastifyRequest {
    accountId: bigint
  }
}

const tags = ['game']
const keyHeader = {
  'idempotency-key': Type.String({
    minLength: 1,
    maxLength: 255,
    description:
      'One fresh key per intended act, such as a UUID, and the same key when repeating it; quoted as in the IETF draft, or bare.',
  }),
}
const needsSession = { 401: 'UNAUTHENTICATED: sign in first.' }
const needsKey = {
  ...needsSession,
  422: 'IDEMPOTENCY_KEY_REUSED: the key was used before with another payload.',
}

/** Everything under /api/game, and the leaderboard. */
export const gameRoutes: RoutePlugin<GameRoutes> = async (app, game) => {
  const configBody = JSON.stringify(gameConfig)
  app.get('/api/game/config', {
    schema: describe({
      summary: 'Strips, paylines, paytable and exact return to player',
      tags,
      response: { 200: gameConfigSchema },
    }),
    handler: async (_, reply) => sendJson(reply, configBody),
  })
  app.post('/api/game/verify', {
    schema: {
      ...describe({
        summary: 'Recompute one spin from its seeds',
        description:
          'Pure: nothing is looked up or stored. docs/verify.py does the same without this server.',
        tags,
        response: { 200: verificationSchema },
      }),
      body: Type.Object({
        serverSeed: Type.String({
          pattern: '^[0-9a-f]{64}$',
          description: '64 lowercase hex characters, used as text.',
        }),
        clientSeed: clientSeedSchema,
        nonce: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
        stakePerLine: stakePerLineSchema,
        lines: linesSchema,
      }),
    },
    handler: async ({ body }) => verify({ ...body, stakePerLine: Number(body.stakePerLine) }),
  })
  app.get('/api/leaderboard', {
    schema: {
      ...describe({ summary: 'Players by what they won', tags, response: { 200: leaderboardSchema } }),
      querystring: Type.Object({
        period: Type.Optional(Type.Enum([...leaderboardPeriods], { default: 'day' })),
      }),
    },
    handler: async ({ query }) => {
      const period = query.period ?? 'day'
      return { period, entries: await game.leaderboard.top(period) }
    },
  })
  await app.register(playerRoutes, game)
}

const playerRoutes: RoutePlugin<GameRoutes> = async (app, game) => {
  app.decorateRequest('accountId', 0n)
  // Before the body is read: who is not signed in learns nothing about what a route takes.
  app.addHook('onRequest', (request, _reply, done) => {
    try {
      const player = game.signedIn.player(request)
      if (!(player instanceof Promise)) {
        request.accountId = player.accountId
        return done()
      }
      player.then(({ accountId }) => {
        request.accountId = accountId
        done()
      }, done)
    } catch (error) {
      done(error as Error)
    }
  })

  app.post('/api/game/spin', {
    schema: {
      ...describe({
        summary: 'Spin the reels',
        session: 'player',
        headers: keyHeader,
        tags,
        response: { 200: spinAnswerSchema },
        problems: { ...needsKey, 402: 'INSUFFICIENT_BALANCE: the balance does not cover the stake.' },
      }),
      body: Type.Object({ stakePerLine: stakePerLineSchema, lines: linesSchema }),
    },
    handler: async (request, reply) => {
      const key = readIdempotencyKey(request.headers['idempotency-key'])
      const { stakePerLine, lines } = request.body
      const result = await game.spins.spin({
        accountId: request.accountId,
        key,
        stakePerLine: Number(stakePerLine),
        lines,
      })
      if (result.kind === 'short') {
        throw gameError('INSUFFICIENT_BALANCE', { balance: result.balance, stake: result.stake })
      }
      if (result.replayed) reply.header('idempotent-replayed', 'true')
      return sendJson(reply, result.body)
    },
  })
  app.get('/api/game/seeds', {
    schema: describe({
      summary: 'The active and the next seed pair',
      tags,
      response: { 200: seedsSchema },
      session: 'player',
      problems: needsSession,
    }),
    handler: ({ accountId }) => game.seeds.of(accountId),
  })
  app.get('/api/game/seeds/retired', {
    schema: describe({
      summary: 'Seed pairs that were taken out of play after a restore of the database',
      description:
        'After a restore no seed from before it is drawn from again. All of them are public, so that you can verify every round you have seen, also one that the restore did not bring back.',
      tags,
      response: { 200: retiredSeedsSchema },
      session: 'player',
      problems: needsSession,
    }),
    handler: async ({ accountId }) => ({ retired: await game.seeds.retired(accountId) }),
  })
  app.post('/api/game/seeds/rotate', {
    schema: {
      ...describe({
        summary: 'Reveal the active server seed and start the next pair with your client seed',
        session: 'player',
        headers: keyHeader,
        tags,
        response: { 200: rotatedSchema },
        problems: needsKey,
      }),
      body: Type.Object({ clientSeed: clientSeedSchema }),
    },
    handler: async (request, reply) => {
      const key = readIdempotencyKey(request.headers['idempotency-key'])
      const { body, replayed } = await game.rotation.rotate({
        accountId: request.accountId,
        key,
        clientSeed: request.body.clientSeed,
      })
      if (replayed) reply.header('idempotent-replayed', 'true')
      return sendJson(reply, body)
    },
  })
  app.get('/api/game/rounds', {
    schema: {
      ...describe({
        summary: 'Your rounds, newest first',
        tags,
        response: { 200: roundPageSchema },
        session: 'player',
        problems: needsSession,
      }),
      querystring: Type.Object({
        cursor: Type.Optional(roundIdSchema('nextCursor of the page before.')),
        limit: Type.Optional(
          Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'Rounds per page.' }),
        ),
      }),
    },
    handler: async ({ accountId, query }, reply) => {
      const before = query.cursor === undefined ? undefined : BigInt(query.cursor)
      const page = { limit: query.limit ?? 50, ...(before === undefined ? {} : { before }) }
      return sendJson(reply, await game.rounds.page(accountId, page))
    },
  })
  app.get('/api/game/rounds/:id', {
    schema: {
      ...describe({
        summary: 'One of your rounds',
        tags,
        response: { 200: roundSchema },
        session: 'player',
        problems: { ...needsSession, 404: 'GAME_ROUND_UNKNOWN: you have no such round.' },
      }),
      params: Type.Object({ id: roundIdSchema('The id of a round.') }),
    },
    handler: async ({ accountId, params }, reply) =>
      sendJson(reply, await game.rounds.one(accountId, BigInt(params.id))),
  })
}

function roundIdSchema(description: string) {
  // 18 digits always fit PostgreSQL's bigint.
  return Type.String({ pattern: '^[0-9]{1,18}$', description })
}
