import { dirname, join, normalize } from 'node:path/posix'
import { type ImportStatement, importsOf } from './imports.ts'

/** A file of the program: its path from the root of the repository, with slashes, and its text. */
export interface Module {
  path: string
  source: string
}

/** `imports` of package.json: `{ '#lib/*': './src/lib/*' }`. */
export type Aliases = Record<string, string>

// docs/architecture.md, "Arrows": from left to right, and never inside one group but where `steps` says so.
const groups: readonly (readonly string[])[] = [
  ['main'],
  ['roles'],
  [
    'game',
    'ledger',
    'wallet',
    'simulator',
    'identity',
    'audit',
    'backup',
    'replication',
    'monitoring',
    'guard',
    'breaker',
  ],
  ['postgres', 'storage', 'http'],
  ['lib'],
]
const steps = new Set(['game -> ledger', 'wallet -> ledger'])

// The part that rescues us stays smallest, so what it reaches is counted to the end, not only its own imports.
const smallestPart = { path: 'src/roles/supervise.ts', mayReach: ['replication', 'postgres', 'lib'] }

/** Every wrong arrow in words, `from: why`; none when the house stands as it is drawn. */
export function wrongArrows(modules: readonly Module[], aliases: Aliases): string[] {
  const graph = readGraph(modules, aliases)
  return [...graph.faults, ...graph.edges.flatMap(fault), ...beyondSmallestPart(graph), ...cycles(graph)]
}

interface Edge extends ImportStatement {
  from: string
  to: string
}

interface Graph {
  edges: Edge[]
  faults: string[]
}

function readGraph(modules: readonly Module[], aliases: Aliases): Graph {
  const known = new Set(modules.map(module => module.path))
  const graph: Graph = { edges: [], faults: [] }
  for (const { path, source } of modules) {
    for (const statement of importsOf(source)) {
      const to = targetOf(path, statement.specifier, aliases)
      if (to === undefined) continue
      // A path that leads nowhere is a mistake of this test or a file outside src; either way nobody checked it.
      if (to.startsWith('src/') && !known.has(to)) graph.faults.push(`${path}: ${to} does not exist`)
      else graph.edges.push({ ...statement, from: path, to })
    }
  }
  return graph
}

/** Path from the root; undefined for packages and for what Node brings. */
function targetOf(from: string, specifier: string, aliases: Aliases): string | undefined {
  if (specifier.startsWith('.')) return normalize(join(dirname(from), specifier))
  for (const [pattern, target] of Object.entries(aliases)) {
    const start = pattern.slice(0, -1)
    if (specifier.startsWith(start))
      return normalize(target.replace('*', () => specifier.slice(start.length)))
  }
  return undefined
}

function fault({ from, to }: Edge): string[] {
  const [here, there] = [roomOf(from), roomOf(to)]
  const isTest = from.endsWith('.test.ts') || from.endsWith('/testing.ts')
  if (there === undefined)
    return isTest && to.startsWith('test/') ? [] : [`${from}: the program does not import ${to}`]
  if (here === there) return to.endsWith('/testing.ts') && !isTest ? [`${from}: ${to} is for tests`] : []
  const [left, right] = [groupOf(here), groupOf(there)]
  if (left === -1) return [`${from}: room ${here} is not in the plan`]
  if (right === -1) return [`${from}: room ${there} is not in the plan`]
  if (right > left || steps.has(`${here} -> ${there}`)) return []
  return [`${from}: ${here} may not import ${there} (${to})`]
}

/** `main` for src/main.ts, else the folder below src; undefined outside src. */
function roomOf(path: string): string | undefined {
  return /^src\/(?:([^/]+)\/|main\.ts$)/.exec(path)?.[1] ?? (path === 'src/main.ts' ? 'main' : undefined)
}

function groupOf(room: string | undefined): number {
  return groups.findIndex(group => group.includes(room ?? ''))
}

function beyondSmallestPart({ edges }: Graph): string[] {
  const { path: start, mayReach } = smallestPart
  const ownFolder = `${start.slice(0, -'.ts'.length)}/`
  const reached = new Set([start])
  // A set that grows while it is walked visits what was added.
  for (const path of reached) for (const { from, to } of edges) if (from === path) reached.add(to)
  return [...reached]
    .filter(path => path !== start && !path.startsWith(ownFolder) && !mayReach.includes(roomOf(path) ?? ''))
    .map(path => `${start}: it reaches ${path}, and may reach ${mayReach.join(', ')} only`)
}

/** Each cycle once, as `a -> b -> a`, types and dynamic imports included. */
function cycles({ edges }: Graph): string[] {
  const next = Map.groupBy(edges, edge => edge.from)
  const found: string[] = []
  const finished = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    const before = trail.indexOf(path)
    if (before !== -1) found.push(`cycle: ${[...trail.slice(before), path].join(' -> ')}`)
    if (before !== -1 || finished.has(path)) return
    for (const { to } of next.get(path) ?? []) visit(to, [...trail, path])
    finished.add(path)
  }
  for (const path of next.keys()) visit(path, [])
  return found
}
