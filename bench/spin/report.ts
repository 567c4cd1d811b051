import type { Window } from './load.ts'
import { median } from './load.ts'

export interface Sample extends Window {
  row: string
  repeat: number
  nodeUsPerSpin: number
  postgresUsPerSpin: number
  walBytesPerSpin: number
  spinsPerFsync: number
}

/** Target figures of the product, each a ratio within one repeat. */
const targets = [
  {
    name: 'in process 128 / simple-update 32',
    over: 'ours 128',
    under: 'pgbench simple-update 32',
    least: 15,
  },
  { name: 'in process 128 / naive 128', over: 'ours 128', under: 'naive 128', least: 18 },
  { name: 'HTTP 256 / simple-update 32', over: 'http 256', under: 'pgbench simple-update 32', least: 8 },
  { name: 'HTTP 256 / naive 128', over: 'http 256', under: 'naive 128', least: 10 },
  { name: 'lone client / one function call', over: 'ours 1', under: 'function 1', least: 1 },
  { name: 'hot account 128 / uniform 128', over: 'ours 128 hot', under: 'ours 128', least: 0.8 },
] as const

export function printReport(
  samples: Sample[],
  o: { json: boolean; facts: Record<string, string | number> },
): void {
  const rows = [...new Set(samples.map(sample => sample.row))].map(row => summary(samples, row))
  const ratios = targets.flatMap(target => ratio(samples, target))
  if (o.json) {
    process.stdout.write(`${JSON.stringify({ facts: o.facts, rows, ratios, samples })}\n`)
    return
  }
  const lines = [
    ...Object.entries(o.facts).map(([name, value]) => `${name}: ${value}`),
    '',
    '| design, clients | spins/s median [min-max] | p50 ms | p99 ms | Node us | PostgreSQL us | WAL B | spins per fsync |',
    '|---|---|---|---|---|---|---|---|',
    ...rows.map(
      row =>
        `| ${row.row} | ${whole(row.perSecond)} [${whole(row.least)}-${whole(row.most)}] | ${row.p50Ms.toFixed(2)} | ${fixed(row.p99Ms, 1)} | ${fixed(row.nodeUsPerSpin, 0)} | ${fixed(row.postgresUsPerSpin, 0)} | ${fixed(row.walBytesPerSpin, 0)} | ${fixed(row.spinsPerFsync, 1)} |`,
    ),
    '',
    '| ratio | median [min-max] | target | |',
    '|---|---|---|---|',
    ...ratios.map(
      row =>
        `| ${row.name} | ${row.median.toFixed(2)} [${row.least.toFixed(2)}-${row.most.toFixed(2)}] | ${row.target} | ${row.median >= row.target ? 'met' : 'short'} |`,
    ),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

function summary(samples: Sample[], row: string) {
  const own = samples.filter(sample => sample.row === row)
  const of = (key: Exclude<keyof Sample, 'row' | 'repeat'>) => median(own.map(sample => sample[key]))
  const rates = own.map(sample => sample.perSecond)
  return {
    row,
    perSecond: of('perSecond'),
    least: Math.min(...rates),
    most: Math.max(...rates),
    p50Ms: of('p50Ms'),
    p99Ms: of('p99Ms'),
    nodeUsPerSpin: of('nodeUsPerSpin'),
    postgresUsPerSpin: of('postgresUsPerSpin'),
    walBytesPerSpin: of('walBytesPerSpin'),
    spinsPerFsync: of('spinsPerFsync'),
  }
}

function ratio(samples: Sample[], target: (typeof targets)[number]) {
  const repeats = [...new Set(samples.map(sample => sample.repeat))]
  const rate = (row: string, repeat: number) =>
    samples.find(sample => sample.row === row && sample.repeat === repeat)?.perSecond
  const values = repeats.flatMap(repeat => {
    const over = rate(target.over, repeat)
    const under = rate(target.under, repeat)
    return over && under ? [over / under] : []
  })
  if (values.length === 0) return []
  return [
    {
      name: target.name,
      median: median(values),
      least: Math.min(...values),
      most: Math.max(...values),
      target: target.least,
    },
  ]
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en')
}

function fixed(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : 'n/a'
}
