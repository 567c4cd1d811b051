import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** What every role logs. */
export const logSlice = defineSlice({
  name: 'log',
  schema: Type.Object({
    level: Type.Union(
      levels.map(level => Type.Literal(level)),
      {
        default: 'info',
        description: 'The least severe lines that are logged',
      },
    ),
  }),
  env: { level: 'LOG_LEVEL' },
})
