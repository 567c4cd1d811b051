import { cpus } from 'node:os'
import { median } from '../spin/load.ts'
import type { BackupSample } from './backups.ts'
import type { CommitSample } from './commits.ts'

export interface Samples {
  backup: BackupSample[]
  restore: BackupSample[]
  commit: CommitSample[]
}

type Section = keyof Samples

/** A ratio within one repeat; above one, ours is better. Without `least` it is told and nothing was promised. */
interface Comparison {
  name: string
  section: Section
  ours: string
  other: string
  least?: number
  /** Without the start of our process, which takes as long for a large database as for a small one. */
  isWithoutStart?: boolean
}

const comparisons: readonly Comparison[] = [
  vs('backup', 'ours, encrypted', 'pg_basebackup client-zstd:1', 1),
  withoutStart(vs('backup', 'ours, encrypted', 'pg_basebackup client-zstd:1')),
  vs('backup', 'ours, encrypted', 'pgBackRest zst-1, encrypted', 1.2),
  vs('backup', 'ours, encrypted', 'pgBackRest zst-1'),
  vs('backup', 'ours, encrypted', 'pg_basebackup'),
  vs('backup', 'ours, encrypted', 'pg_dump to gzip', 6),
  vs('restore', 'ours, encrypted', 'pgBackRest zst-1, encrypted', 1),
  withoutStart(vs('restore', 'ours, encrypted', 'pgBackRest zst-1, encrypted')),
  vs('restore', 'ours, encrypted', 'pgBackRest zst-1'),
  vs('restore', 'ours, encrypted, with replay', 'pgBackRest zst-1, encrypted, with replay'),
  vs('commit', 'our archive, sync, 16', 'no archive, 16', 0.85),
  vs('commit', 'our archive, sync, 16', 'pg_receivewal --synchronous, sync, 16', 1),
  vs('commit', 'our archive, async, 16', 'no archive, 16'),
  vs('commit', 'our archive, sync, 1', 'no archive, 1'),
  vs('commit', 'our archive, sync, 1', 'pg_receivewal --synchronous, sync, 1'),
  vs('commit', 'our archive, async, 1', 'no archive, 1'),
]

const mostPeakMegabytes = 300

function vs(section: Section, ours: string, other: string, least?: number): Comparison {
  return { name: `${section}: ${ours} / ${other}`, section, ours, other, ...(least ? { least } : {}) }
}

function withoutStart(one: Comparison): Comparison {
  return { ...one, name: `${one.name}, without the start of Node`, isWithoutStart: true }
}

export function printReport(
  samples: Samples,
  o: { json: boolean; facts: Record<string, string | number> },
): void {
  const ratios = comparisons.flatMap(one => ratio(samples, one))
  const facts = { ...o.facts, ...measuredFacts(samples) }
  const peaks = ownPeaks(samples)
  if (o.json) {
    process.stdout.write(`${JSON.stringify({ facts, ratios, peaks, samples })}\n`)
    return
  }
  const parts = [
    Object.entries(facts).map(([name, value]) => `${name}: ${value}`),
    ...(['backup', 'restore'] as const).map(section => amounts(section, samples[section])),
    rates(samples.commit),
    verdicts(ratios, peaks),
  ]
  const text = parts.filter(lines => lines.length > 0).map(lines => lines.join('\n'))
  process.stdout.write(`${text.join('\n\n')}\n`)
}

function amounts(section: 'backup' | 'restore', samples: readonly BackupSample[]): string[] {
  if (samples.length === 0) return []
  const line = (row: string, own: BackupSample[]) => {
    const of = (key: NumberOf<BackupSample>) => median(own.map(one => one[key] ?? Number.NaN))
    const cpu = own.map(one => one.clientCpuSeconds + (one.serverCpuSeconds || 0))
    const busy = median(own.map((one, index) => (cpu[index] ?? Number.NaN) / one.seconds))
    const times = spread(
      own.map(one => one.seconds),
      2,
    )
    return `| ${row} | ${times} | ${fixed(of('megabytesPerSecond'), 0)} | ${fixed(of('outputMegabytes'), 0)} | ${fixed(of('clientCpuSeconds'), 2)} | ${fixed(of('serverCpuSeconds'), 2)} | ${fixed(busy, 1)} | ${fixed(of('peakMegabytes'), 0)} |`
  }
  return [
    `| ${section} | seconds median [min-max] | MB/s | MB written | client CPU s | server CPU s | processors busy, of ${cpus().length} | peak RSS MB |`,
    '|---|---|---|---|---|---|---|---|',
    ...byRow(samples).map(([row, own]) => line(row, own)),
  ]
}

function rates(samples: readonly CommitSample[]): string[] {
  if (samples.length === 0) return []
  const line = (row: string, own: CommitSample[]) => {
    const of = (key: NumberOf<CommitSample>) => median(own.map(one => one[key] ?? Number.NaN))
    const rate = spread(
      own.map(one => one.perSecond),
      0,
    )
    return `| ${row} | ${rate} | ${fixed(of('p50Ms'), 2)} | ${fixed(of('p95Ms'), 2)} | ${fixed(of('p99Ms'), 2)} | ${fixed(of('serverCpuSeconds'), 2)} | ${fixed(of('receiverCpuSeconds'), 2)} | ${fixed(of('receiverPeakMegabytes'), 0)} |`
  }
  return [
    '| commits, clients | commits/s median [min-max] | p50 ms | p95 ms | p99 ms | server CPU s | receiver CPU s | receiver peak RSS MB |',
    '|---|---|---|---|---|---|---|---|',
    ...byRow(samples).map(([row, own]) => line(row, own)),
  ]
}

function verdicts(ratios: readonly Ratio[], peaks: readonly Peak[]): string[] {
  const verdict = (isMet: boolean | undefined) => (isMet === undefined ? '' : isMet ? 'met' : 'missed')
  return [
    '| speed of ours / of the other | median [min-max] | target | |',
    '|---|---|---|---|',
    ...ratios.map(one => {
      const isMet = one.target === undefined ? undefined : one.median >= one.target
      const range = `${fixed(one.median, 2)} [${fixed(one.least, 2)}-${fixed(one.most, 2)}]`
      return `| ${one.name} | ${range} | ${one.target === undefined ? '' : `at least ${one.target}`} | ${verdict(isMet)} |`
    }),
    ...peaks.map(
      one =>
        `| peak RSS MB: ${one.name} | ${fixed(one.megabytes, 0)} | at most ${mostPeakMegabytes} | ${verdict(one.megabytes <= mostPeakMegabytes)} |`,
    ),
  ]
}

interface Ratio {
  name: string
  median: number
  least: number
  most: number
  target?: number
}

function ratio(samples: Samples, one: Comparison): Ratio[] {
  const all: readonly (BackupSample | CommitSample)[] = samples[one.section]
  const speed = (row: string, repeat: number) => {
    const sample = all.find(candidate => candidate.row === row && candidate.repeat === repeat)
    if (!sample || 'perSecond' in sample) return sample?.perSecond
    return 1 / (sample.seconds - (one.isWithoutStart ? (sample.startSeconds ?? 0) : 0))
  }
  const values = [...new Set(all.map(sample => sample.repeat))].flatMap(repeat => {
    const ours = speed(one.ours, repeat)
    const other = speed(one.other, repeat)
    return ours && other ? [ours / other] : []
  })
  if (values.length === 0) return []
  const range = { median: median(values), least: Math.min(...values), most: Math.max(...values) }
  return [{ name: one.name, ...range, ...(one.least === undefined ? {} : { target: one.least }) }]
}

interface Peak {
  name: string
  megabytes: number
}

/** The highest of all repeats. */
function ownPeaks(samples: Samples): Peak[] {
  const peaks = [
    { name: 'backup', values: samples.backup.filter(isOurs).map(one => one.peakMegabytes) },
    { name: 'restore', values: samples.restore.filter(isOurs).map(one => one.peakMegabytes) },
    {
      name: 'archive',
      values: samples.commit.filter(one => one.row.startsWith('our ')).map(one => one.receiverPeakMegabytes),
    },
  ]
  return peaks
    .filter(one => one.values.length > 0)
    .map(({ name, values }) => ({ name, megabytes: Math.max(...values) }))
}

/** What the samples tell beside their rows. */
function measuredFacts(samples: Samples): Record<string, string> {
  const starts = [...samples.backup, ...samples.restore].flatMap(one => one.startSeconds ?? [])
  if (starts.length === 0) return {}
  return { 'start of Node and of our program, in every row of ours': `${median(starts).toFixed(2)} s` }
}

function isOurs(sample: BackupSample): boolean {
  return sample.row.startsWith('ours')
}

type NumberOf<T> = { [K in keyof T]-?: T[K] extends number | undefined ? K : never }[keyof T]

function byRow<T extends { row: string }>(samples: readonly T[]): [string, T[]][] {
  return [...Map.groupBy(samples, sample => sample.row)]
}

function spread(values: readonly number[], digits: number): string {
  const text = (value: number) =>
    value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
  return `${text(median(values))} [${text(Math.min(...values))}-${text(Math.max(...values))}]`
}

function fixed(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : 'n/a'
}
