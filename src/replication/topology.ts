import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Type, { type Static } from 'typebox'
import Value from 'typebox/value'
import { type Home, writeDurably } from '#lib/home.ts'
import { replicationError } from './errors.ts'
import { nodeOfMember } from './names.ts'
import { neverOutside, OutsideRecord, outsideAfter } from './outside.ts'

export type ReplicationMode = 'max-protection' | 'max-availability'

const Member = Type.Object(
  { name: Type.String({ pattern: '^[a-z][a-z0-9_]{0,62}$' }), since: Type.String() },
  { additionalProperties: false },
)

const Topology = Type.Object(
  {
    /** Raised by each promotion. */
    epoch: Type.Integer({ minimum: 1 }),
    /** The node that takes writes, such as `node-a`. */
    primary: Type.String({ pattern: '^node-[a-z0-9]{1,20}$' }),
    /** Data nodes beside the primary that hold every acknowledged commit: only these may be promoted. */
    syncSet: Type.Array(Type.String({ pattern: '^node-[a-z0-9]{1,20}$' }), { maxItems: 16 }),
    mode: Type.Union([Type.Literal('max-protection'), Type.Literal('max-availability')]),
    /** Digits; one per initdb. */
    systemIdentifier: Type.String({ pattern: '^\\d{1,20}$' }),
    timeline: Type.Integer({ minimum: 1 }),
    /** All who hold every acknowledged commit, by application_name: those of syncSet, and the archive. */
    members: Type.Array(Member, { maxItems: 16 }),
    outside: OutsideRecord,
  },
  { additionalProperties: false },
)

/** What `state/topology.json` holds. */
export type Topology = Static<typeof Topology>

/** Throws TOPOLOGY_INVALID for a file that this program could not have written; undefined when there is none. */
export class TopologyFile {
  readonly path: string
  #value: Topology | undefined

  constructor(home: Home) {
    this.path = join(home.state, 'topology.json')
    this.#value = read(this.path)
  }

  get value(): Topology | undefined {
    return this.#value
  }

  /** Durable before it returns, and therefore before whatever it permits. Writes nothing when nothing differs. */
  write(next: Topology): void {
    const problem = problemOf(next)
    if (problem !== undefined) throw new TypeError(`a topology that nobody could read: ${problem}`)
    if (this.#value && Value.Equal(this.#value, next)) return
    writeDurably(this.path, `${JSON.stringify(next, null, 2)}\n`)
    this.#value = next
  }

  /** Before the server is started. Throws TOPOLOGY_OTHER_SYSTEM, TOPOLOGY_DATA_MISSING. */
  refuseOther(dataDirectory: string, found: string | undefined): void {
    const recorded = this.#value?.systemIdentifier
    if (recorded === undefined || recorded === found) return
    const facts = { path: this.path, dataDirectory, recorded, found }
    throw replicationError(found === undefined ? 'TOPOLOGY_DATA_MISSING' : 'TOPOLOGY_OTHER_SYSTEM', facts)
  }
}

export function firstTopology(
  facts: Pick<Topology, 'primary' | 'mode' | 'systemIdentifier' | 'timeline'>,
): Topology {
  return { epoch: 1, syncSet: [], members: [], outside: neverOutside, ...facts }
}

/** The topology once exactly `members` hold every acknowledged commit. */
export function withMembers(
  before: Topology,
  change: { members: readonly string[]; wanted: readonly string[]; cause: string; at: Date },
): Topology {
  const since = (name: string) =>
    before.members.find(one => one.name === name)?.since ?? change.at.toISOString()
  return {
    ...before,
    members: change.members.map(name => ({ name, since: since(name) })),
    syncSet: dataNodes(change.members),
    outside: outsideAfter(before.outside, change),
  }
}

function dataNodes(members: readonly string[]): string[] {
  return members.map(nodeOfMember).filter(node => node !== undefined)
}

function read(path: string): Topology | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw replicationError('TOPOLOGY_INVALID', { path, reason: `it cannot be read (${code})` })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw replicationError('TOPOLOGY_INVALID', { path, reason: `it is not JSON (${text.length} bytes)` })
  }
  const reason = problemOf(value)
  if (reason !== undefined) throw replicationError('TOPOLOGY_INVALID', { path, reason })
  return value as Topology
}

/** The first thing wrong with it, in words. */
function problemOf(value: unknown): string | undefined {
  if (!Value.Check(Topology, value)) {
    const [first] = Value.Errors(Topology, value)
    if (!first) return 'it has another shape'
    const isUnknown = first.message === 'schema is false'
    return `${first.instancePath || 'it'} ${isUnknown ? 'is not known to this version' : first.message}`
  }
  const names = value.members.map(member => member.name)
  if (new Set(names).size !== names.length) return 'a member is there twice'
  if (!Value.Equal(value.syncSet, dataNodes(names))) return 'syncSet is not what members say'
  return undefined
}
