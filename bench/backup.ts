/**
 * Backup, restore and the cost of an archive to commits: ours, pg_basebackup, pgBackRest, pg_dump and pg_receivewal on the
 * same data in one run. `node bench/backup.ts [--repeats 3] [--megabytes 1024] [--seconds 5] [--only
 * backup|restore|commit] [--json]`; nothing else should use the machine meanwhile.
 */
import { execFileSync } from 'node:child_process'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type BackupSample, backupSteps, type Step } from './backup/backups.ts'
import { type CommitSample, commitSteps, hasPgbench } from './backup/commits.ts'
import { findPgbackrest } from './backup/pgbackrest.ts'
import { printReport, type Samples } from './backup/report.ts'
import { restoreSteps } from './backup/restores.ts'
import { type BenchWorld, debianBin, openWorld } from './backup/world.ts'
import { measureFdatasync } from './spin/disk.ts'

const sections = ['backup', 'restore', 'commit'] as const
const { values } = parseArgs({
  options: {
    repeats: { type: 'string', default: '3' },
    megabytes: { type: 'string', default: '1024' },
    seconds: { type: 'string', default: '5' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const repeats = positive('repeats')
const megabytes = positive('megabytes')
const seconds = positive('seconds')
const wanted = sections.filter(section => values.only === undefined || values.only === section)
if (wanted.length === 0) throw new Error(`--only takes ${sections.join(', ')}`)
const say = (text: string) => process.stderr.write(`${text}\n`)
// Before we make load of our own.
const load = loadavg()
  .map(value => value.toFixed(1))
  .join(' ')

let close = async () => {}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => void close().finally(() => process.exit(1)))
try {
  const world = await openWorld({
    megabytes,
    servers: { debian: true, embedded: wanted.includes('backup') },
    opened: end => {
      close = end
    },
    say,
  })
  sayWhatIsMissing(world)
  const facts = await factsOf(world)
  printReport(await measureAll(world), { json: values.json, facts })
} finally {
  await close()
}

async function measureAll(world: BenchWorld): Promise<Samples> {
  const samples: Samples = { backup: [], restore: [], commit: [] }
  if (wanted.includes('backup')) samples.backup = await repeated(backupSteps(world), tellAmount)
  if (wanted.includes('restore')) samples.restore = await repeated(await restoreSteps(world), tellAmount)
  const hasLoad = world.debian && hasPgbench(world.debian)
  if (wanted.includes('commit') && hasLoad)
    samples.commit = await repeated(commitSteps(world, { seconds }), tellRate)
  return samples
}

async function repeated<T>(steps: readonly Step<T>[], tell: (sample: T) => string): Promise<T[]> {
  const samples: T[] = []
  for (let repeat = 1; repeat <= repeats; repeat++) {
    for (const step of steps) {
      const sample = await step.run(repeat)
      samples.push(sample)
      say(`${repeat}/${repeats} ${step.row.padEnd(42)} ${tell(sample)}`)
    }
  }
  return samples
}

function tellAmount(one: BackupSample): string {
  return `${one.seconds.toFixed(2)} s, ${one.megabytesPerSecond.toFixed(0)} MB/s, ${one.outputMegabytes.toFixed(0)} MB written`
}

function tellRate(one: CommitSample): string {
  return `${one.perSecond.toFixed(0)}/s  p50 ${one.p50Ms.toFixed(2)} p99 ${one.p99Ms.toFixed(2)} ms`
}

function sayWhatIsMissing({ debian }: BenchWorld): void {
  if (!debian)
    say(`${debianBin} is not there: all rows but ours on 18 are missing (apt-get install postgresql-15)`)
  else if (!hasPgbench(debian))
    say('pgbench is not there: the rows of commits are missing (apt-get install postgresql-15)')
  if (!findPgbackrest()) say('pgbackrest is not there: its rows are missing (apt-get install pgbackrest)')
}

async function factsOf({ debian, embedded, memory }: BenchWorld): Promise<Record<string, string | number>> {
  const server = debian ?? embedded
  const versionOf = (program: string, ...options: string[]) =>
    execFileSync(program, options, { encoding: 'utf8' }).trim()
  const pgbackrest = findPgbackrest()
  return {
    node: process.version,
    servers: [debian, embedded].flatMap(one => (one ? `PostgreSQL ${one.binaries.version}` : [])).join(', '),
    peers: [
      ...(debian ? [versionOf(join(debianBin, 'pg_basebackup'), '--version')] : []),
      ...(pgbackrest ? [versionOf(pgbackrest, 'version')] : []),
    ].join(', '),
    cpu: `${cpus().length} x ${cpus()[0]?.model}`,
    'load before': load,
    fdatasyncPerSecond: server ? measureFdatasync(server.node.logDirectory) : 'n/a',
    data: `${server?.megabytes.toFixed(0)} MB in all databases, on disk and in the page cache`,
    target: memory.startsWith('/dev/shm') ? 'tmpfs' : memory,
    window: `${repeats} interleaved repeats; commits ${seconds} s each`,
  }
}

function positive(name: 'repeats' | 'megabytes' | 'seconds'): number {
  const value = Number(values[name])
  if (!(value >= 1)) throw new Error(`--${name} takes a number of at least 1`)
  return value
}
