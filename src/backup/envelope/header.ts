import Type, { type TSchema } from 'typebox'
import Compile from 'typebox/compile'
import { formatVersion, type SealedHeader, type SealedKind } from '../model.ts'
import { requireSound } from './damage.ts'

// Headers are about 500 bytes, more after hundreds of timelines; the bound keeps a damaged length from costing memory.
export const longestHeaderBytes = 64 * 1024

const count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const lsn = Type.String({ pattern: '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$' })
const timeline = Type.Integer({ minimum: 1, maximum: 0xffff_ffff })
const systemIdentifier = Type.String({ pattern: '^[0-9]{1,20}$' })

// Facts may grow: those that this version does not know are authenticated like the others and bounded by the header.
const walFacts = Type.Object({
  systemIdentifier,
  timeline,
  segment: Type.String({ pattern: '^[0-9A-F]{24}$' }),
  segmentBytes: count,
  start: lsn,
  end: lsn,
  closedBySwitch: Type.Optional(Type.Boolean()),
})
const packFacts = Type.Object({
  backupId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,128}$' }),
  archive: Type.String({ pattern: '^[A-Za-z0-9._-]{1,128}$' }),
  offset: count,
})
const factsOf: Record<SealedKind, TSchema> = {
  wal: walFacts,
  'wal-tail': walFacts,
  history: Type.Object({
    systemIdentifier,
    timeline,
    parents: Type.Array(Type.Object({ timeline, end: lsn }), { maxItems: 1500 }),
    text: Type.Optional(Type.String({ maxLength: 16 * 1024 })),
  }),
  pack: packFacts,
  manifest: Type.Object({}),
  files: Type.Object({}),
}

const headerCheck = Compile(
  Type.Union(
    Object.entries(factsOf).map(([kind, facts]) =>
      Type.Object(
        {
          format: Type.Literal(formatVersion),
          repositoryId: Type.String({ pattern: '^[0-9a-f]{32}$' }),
          object: Type.String({ pattern: '^[A-Za-z0-9._/-]{1,512}$' }),
          kind: Type.Literal(kind),
          dataKey: Type.String({ pattern: '^[0-9a-f]{32}$' }),
          salt: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' }),
          compression: Type.Union([Type.Literal('zstd'), Type.Literal('none')]),
          facts,
        },
        { additionalProperties: false },
      ),
    ),
  ),
)

/** UTF-8 JSON, in exactly the form that parseHeader takes. */
export function encodeHeader(header: SealedHeader): Buffer {
  const bytes = Buffer.from(JSON.stringify(header))
  parseHeader(bytes)
  return bytes
}

/** @throws Damage */
export function parseHeader(bytes: Uint8Array): SealedHeader {
  requireSound(bytes.length <= longestHeaderBytes, 'its header is too long')
  const text = Buffer.from(bytes).toString('utf8')
  const value = parseJson(text)
  requireSound(value !== undefined, 'its header is no JSON')
  requireSound(formatOf(value) <= formatVersion, 'it is of a newer format than this version reads')
  requireSound(headerCheck.Check(value), 'its header is not one of this format')
  // One text for one meaning: no doubled names, no odd spellings that another reader might take differently.
  requireSound(JSON.stringify(value) === text, 'its header is not in the one allowed form')
  return value as SealedHeader
}

function formatOf(value: unknown): number {
  const format = (value as { format?: unknown } | null)?.format
  return typeof format === 'number' ? format : 0
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
