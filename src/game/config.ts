import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

export const gameSlice = defineSlice({
  name: 'game',
  schema: Type.Object({
    maxBatch: Type.Integer({
      default: 512,
      minimum: 1,
      maximum: 4096,
      unit: 'spins',
      description: 'Most spins settled by one statement and one commit.',
    }),
    maxQueue: Type.Integer({
      default: 4096,
      minimum: 1,
      maximum: 100_000,
      unit: 'spins',
      description: 'Most spins that wait; more are answered 503 with Retry-After.',
    }),
    patienceMs: Type.Integer({
      default: 8000,
      minimum: 100,
      maximum: 60_000,
      unit: 'ms',
      description:
        'How long a spin waits for a database that is away before its caller is told to come again.',
    }),
    seatCache: Type.Integer({
      default: 50_000,
      minimum: 100,
      maximum: 5_000_000,
      unit: 'accounts',
      description: 'Accounts whose seeds are held ready for drawing, about 600 bytes each.',
    }),
    leaderboardSeconds: Type.Integer({
      default: 10,
      minimum: 1,
      maximum: 3600,
      unit: 's',
      description: 'How often new rounds are added to the leaderboard.',
    }),
  }),
})
