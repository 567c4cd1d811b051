import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyPluginAsync,
  FastifyPluginOptions,
  FastifyReply,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { Static, TSchema } from 'typebox'

/** Lets a route's TypeBox schemas give the types of its body, query, params and replies. */
export interface TypeBoxProvider extends FastifyTypeProvider {
  validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  serializer: this['schema'] extends TSchema ? Static<this['schema']> : unknown
}

/** The Fastify instance that createHttp gives: routes registered on it are typed by their TypeBox schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxProvider
>

/** The form of a pillar's routes.ts: `export const gameRoutes: RoutePlugin<{ game: Game }> = async (app, { game }) => {}` */
export type RoutePlugin<Options extends FastifyPluginOptions = Record<never, never>> = FastifyPluginAsync<
  Options,
  RawServerDefault,
  TypeBoxProvider
>

/** What /readyz and /startupz answer from. Reasons are for operators and say nothing secret. */
export interface ReadyReport {
  ready: boolean
  reasons: readonly string[]
}

/**
 * Replies with JSON text made elsewhere, byte for byte: nothing parses or serialises it again. Return what it gives:
 * that is the reply, which Fastify must see from an async handler, typed so that it fits any route's response schema.
 */
export function sendJson(reply: Pick<FastifyReply, 'header'>, json: string): undefined {
  const typed = reply.header('content-type', 'application/json; charset=utf-8') as FastifyReply
  return typed.send(json) as unknown as undefined
}
