import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

export const httpSlice = defineSlice({
  name: 'http',
  env: { port: 'PORT', host: 'HOST', publicUrl: 'PUBLIC_URL', trustedProxies: 'TRUSTED_PROXIES' },
  schema: Type.Object({
    port: Type.Integer({
      default: 3000,
      minimum: 0,
      maximum: 65_535,
      description: 'TCP port of the API and the pages; 0 takes any free one.',
    }),
    host: Type.String({
      default: '127.0.0.1',
      minLength: 1,
      maxLength: 255,
      description: 'Address to listen on.',
    }),
    publicUrl: Type.Optional(
      Type.String({
        pattern: '^https?://[A-Za-z0-9.:\\[\\]-]{1,255}$',
        description:
          'Address that players type, such as https://play.example, without a path; sign-in domain and Secure cookies come from it.',
      }),
    ),
    trustedProxies: Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
      default: [],
      maxItems: 100,
      description: 'CIDR ranges whose X-Forwarded-For is believed.',
    }),
    bodyLimitBytes: Type.Integer({
      default: 16_384,
      minimum: 1_024,
      maximum: 1_048_576,
      unit: 'bytes',
      description: 'Largest request body.',
    }),
    requestTimeoutMs: Type.Integer({
      default: 10_000,
      minimum: 100,
      maximum: 300_000,
      unit: 'ms',
      description: 'Time for a whole request to arrive.',
    }),
    headersTimeoutMs: Type.Integer({
      default: 5_000,
      minimum: 100,
      maximum: 300_000,
      unit: 'ms',
      description: 'Time for the headers of a request to arrive.',
    }),
    connectionTimeoutMs: Type.Integer({
      default: 60_000,
      minimum: 1_000,
      maximum: 3_600_000,
      unit: 'ms',
      description: 'A connection without a byte in either direction is cut after this.',
    }),
    keepAliveTimeoutMs: Type.Integer({
      // Above the 60 s of the usual proxies, so that they and not we end an idle connection.
      default: 65_000,
      minimum: 100,
      maximum: 3_600_000,
      unit: 'ms',
      description: 'An idle connection is kept this long for its next request.',
    }),
    maxConnections: Type.Integer({
      default: 4_096,
      minimum: 1,
      maximum: 1_000_000,
      unit: 'connections',
      description: 'Connections above this are refused at once.',
    }),
    drainMs: Type.Integer({
      default: 10_000,
      minimum: 0,
      maximum: 600_000,
      unit: 'ms',
      description: 'At shutdown, requests in flight get this long to finish.',
    }),
  }),
})
