import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

/** Where PostgreSQL comes from and how the embedded one runs. */
export const postgresServerSlice = defineSlice({
  name: 'postgres',
  schema: Type.Object({
    topology: Type.Union([Type.Literal('embedded'), Type.Literal('external')], {
      default: 'embedded',
      description:
        'embedded: this program runs PostgreSQL; external: DATABASE_URL names one run by somebody else',
    }),
    bin: Type.Optional(
      Type.String({
        description: 'Directory of postgres and initdb; without it the ones installed with npm',
      }),
    ),
    port: Type.Integer({
      default: 5432,
      minimum: 1,
      maximum: 65535,
      description: 'Loopback port of the primary; a free one is chosen and printed when it is taken',
    }),
    sharedBuffersMegabytes: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 65536,
      description: 'shared_buffers in MB; 0 sizes it from the memory of the machine',
    }),
    startWithinSeconds: Type.Integer({
      default: 300,
      minimum: 5,
      maximum: 86400,
      description: 'How long a start may take, crash recovery included',
    }),
    stopWithinSeconds: Type.Integer({
      default: 30,
      minimum: 1,
      maximum: 3600,
      description: 'How long a fast stop may take before an immediate one follows',
    }),
  }),
  env: { topology: 'MOONYETIS_TOPOLOGY', bin: 'MOONYETIS_POSTGRES_BIN' },
})
