import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

/** What this installation is for; every role agrees on it. */
export const installationSlice = defineSlice({
  name: 'installation',
  schema: Type.Object({
    chain: Type.Union([Type.Literal('simulated'), Type.Literal('mainnet')], {
      default: 'simulated',
      description: 'simulated plays with play money only; mainnet is real money and needs a fresh home.',
    }),
    nodeEnv: Type.Optional(
      Type.String({ maxLength: 64, description: 'production refuses the simulated chain.' }),
    ),
    databaseUrl: Type.Optional(
      Type.String({
        description:
          'External topology: postgresql://user:password@host:5432/moonyetis_slots, hosts comma-separated.',
      }),
    ),
  }),
  env: { chain: 'MOONYETIS_CHAIN', nodeEnv: 'NODE_ENV', databaseUrl: 'DATABASE_URL' },
  secrets: ['databaseUrl'],
})
