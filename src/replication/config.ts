import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

/** What a commit waits for beside the local disk, and what happens when that is away. */
export const replicationSlice = defineSlice({
  name: 'replication',
  schema: Type.Object({
    mode: Type.Union([Type.Literal('max-protection'), Type.Literal('max-availability')], {
      default: 'max-availability',
      description:
        'max-protection: commits wait as long as a synchronous member is away; max-availability: it leaves the set after availabilityTimeoutSeconds, logged and counted',
    }),
    availabilityTimeoutSeconds: Type.Integer({
      default: 10,
      minimum: 1,
      maximum: 3600,
      description:
        'How long commits wait for a synchronous member, and how long it may be away, before it leaves the set in max-availability',
    }),
  }),
})
