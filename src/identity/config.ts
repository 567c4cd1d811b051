import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

export const identitySlice = defineSlice({
  name: 'identity',
  schema: Type.Object({
    sessionHours: Type.Integer({
      default: 24,
      minimum: 1,
      maximum: 720,
      unit: 'hours',
      description: 'A player signs in again after this.',
    }),
    sessionCacheSeconds: Type.Integer({
      default: 30,
      minimum: 0,
      maximum: 30,
      unit: 's',
      description: 'A verified session is believed this long without asking the database; 0 asks each time.',
    }),
    sessionCacheEntries: Type.Integer({
      default: 50_000,
      minimum: 1,
      maximum: 1_000_000,
      unit: 'sessions',
      description: 'Verified sessions kept in memory, about 500 bytes each.',
    }),
    operatorSessionHours: Type.Integer({
      default: 12,
      minimum: 1,
      maximum: 168,
      unit: 'hours',
      description: 'An operator signs in again after this.',
    }),
  }),
})
