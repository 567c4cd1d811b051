import Type from 'typebox'
import { chipsSchema, timeSchema } from '#http/schemas.ts'
import { symbols } from './paytable.ts'

// The pattern carries the range 1 to 1,000,000, so that validation alone refuses what settlement could not hold.
export const stakePerLineSchema = Type.String({
  pattern: '^([1-9][0-9]{0,5}|1000000)$',
  description: 'Chips on each line, 1 to 1000000, as a digit string such as "10".',
})

export const linesSchema = Type.Integer({
  minimum: 1,
  maximum: 10,
  description: 'Paylines played, from line 1 on.',
})

export const clientSeedSchema = Type.String({
  pattern: '^[A-Za-z0-9_-]{1,64}$',
  description: 'Your part of the draw: 1 to 64 characters of A-Z a-z 0-9 _ -.',
})

const hashSchema = Type.String({ description: 'Hex SHA-256 of the server seed text.' })
const symbolSchema = Type.Enum([...symbols])

const winSchema = Type.Object({
  line: Type.Integer({ description: 'Payline, counted from 1.' }),
  symbol: symbolSchema,
  count: Type.Integer({ description: 'Reels in the run, 3 to 5.' }),
  payout: chipsSchema,
})

const roundMembers = {
  id: Type.String(),
  nonce: Type.Integer({ minimum: 0 }),
  serverSeedHash: hashSchema,
  clientSeed: clientSeedSchema,
  stops: Type.Array(Type.Integer({ minimum: 0, maximum: 63 }), { minItems: 5, maxItems: 5 }),
  grid: Type.Array(Type.Array(symbolSchema), { description: 'Five columns, each top to bottom.' }),
  wins: Type.Array(winSchema),
  stake: chipsSchema,
  payout: chipsSchema,
}

export const spinAnswerSchema = Type.Object({ round: Type.Object(roundMembers), balance: chipsSchema })

export const roundSchema = Type.Object({
  ...roundMembers,
  stakePerLine: stakePerLineSchema,
  lines: linesSchema,
  version: Type.String({
    description: 'The game version it was played under, as GET /api/game/config names it.',
  }),
  createdAt: timeSchema,
  balanceAfter: chipsSchema,
  serverSeed: Type.Optional(
    Type.String({ description: 'Once it is public: after a rotation, or when the pair was retired.' }),
  ),
})

export const roundPageSchema = Type.Object({
  rounds: Type.Array(roundSchema),
  nextCursor: Type.Union([Type.String(), Type.Null()]),
})

export const seedsSchema = Type.Object({
  serverSeedHash: hashSchema,
  nextServerSeedHash: hashSchema,
  clientSeed: clientSeedSchema,
  nonce: Type.Integer({ minimum: 0, description: 'The nonce of the next round.' }),
})

export const retiredSeedsSchema = Type.Object({
  retired: Type.Array(
    Type.Object({
      serverSeedHash: hashSchema,
      serverSeed: Type.Union([Type.String(), Type.Null()], {
        description: 'null while the key that sealed it is missing.',
      }),
      clientSeed: Type.Union([clientSeedSchema, Type.Null()], {
        description: 'null of a pair that was not active yet.',
      }),
      rounds: Type.Integer({ minimum: 0, description: 'Its rounds that came back with the restore.' }),
    }),
  ),
})

export const rotatedSchema = Type.Object({
  revealed: Type.Object({
    serverSeed: Type.String(),
    serverSeedHash: hashSchema,
    clientSeed: clientSeedSchema,
    lastNonce: Type.Union([Type.Integer(), Type.Null()], {
      description: 'null when no round was played with it.',
    }),
  }),
  current: seedsSchema,
})

export const verificationSchema = Type.Object({
  serverSeedHash: hashSchema,
  hmac: Type.String(),
  stops: roundMembers.stops,
  grid: roundMembers.grid,
  wins: roundMembers.wins,
  stake: chipsSchema,
  payout: chipsSchema,
  version: Type.String(),
})

export const gameConfigSchema = Type.Object({
  strips: Type.Array(Type.Array(symbolSchema), { description: 'Five strips of 64 stops.' }),
  paylines: Type.Array(Type.Array(Type.Integer()), {
    description: 'Ten lines; the row (0 top to 2 bottom) on each reel.',
  }),
  paytable: Type.Record(Type.String(), Type.Array(Type.Integer()), {
    description: 'Pays for 3, 4 and 5 from the left, in stakes per line.',
  }),
  rtp: Type.Object({ numerator: Type.String(), denominator: Type.String() }),
  version: Type.String(),
})

export const leaderboardSchema = Type.Object({
  period: Type.String(),
  entries: Type.Array(
    Type.Object({
      rank: Type.Integer(),
      player: Type.String(),
      rounds: Type.String(),
      staked: chipsSchema,
      won: chipsSchema,
      bestPayout: chipsSchema,
    }),
  ),
})
