import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { superuserName } from '#postgres/server/access.ts'
import type { BackupOptions } from './own-backup.ts'
import type { OursPlace, OursResult } from './own-process.ts'
import { findPgbackrest, Pgbackrest } from './pgbackrest.ts'
import { measured, run } from './processes.ts'
import { type BenchServer, type BenchWorld, makeDirectories } from './world.ts'

/** One run of one row. */
export interface BackupSample {
  section: 'backup' | 'restore'
  row: string
  repeat: number
  seconds: number
  megabytesPerSecond: number
  outputMegabytes: number
  clientCpuSeconds: number
  serverCpuSeconds: number
  peakMegabytes: number
  /** Of ours: from the start of the process to its first line of work. */
  startSeconds?: number
}

export interface Step<Sample> {
  row: string
  run(repeat: number): Promise<Sample>
}

/** What a row works with: a new directory in memory, and what is to be measured. */
interface Prepared {
  command: readonly string[]
  /** Directory whose files are the output. */
  output: string
  after?: () => Promise<void>
}

/** The rows of which the programs are there. */
export function backupSteps(world: BenchWorld): Step<BackupSample>[] {
  const { debian, embedded } = world
  const step = (
    row: string,
    server: BenchServer | undefined,
    prepare: (server: BenchServer, directory: string) => Promise<Prepared>,
  ): Step<BackupSample>[] =>
    server
      ? [
          {
            row,
            run: repeat => measureBackup(world, { row, repeat, server, prepare: prepare.bind(null, server) }),
          },
        ]
      : []
  const pgbackrest = (encrypted: boolean) => async (server: BenchServer, directory: string) => {
    const made = await Pgbackrest.create(world, server, { directory, encrypted })
    return { command: made.backup(), output: made.repository, after: () => made.detach() }
  }
  const rest = findPgbackrest() ? debian : undefined
  return [
    ...step('pg_basebackup', debian, async (server, to) => baseBackup(server, to, [])),
    ...step('ours, encrypted', debian, (server, to) => oursBackup(world, server, to)),
    ...step('pg_basebackup client-zstd:1', debian, async (server, to) =>
      baseBackup(server, to, ['--compress=client-zstd:1']),
    ),
    ...step('pgBackRest zst-1, encrypted', rest, pgbackrest(true)),
    ...step('pgBackRest zst-1', rest, pgbackrest(false)),
    ...step('pg_dump to gzip', debian, async (server, to) => dump(world, server, to)),
    ...step('ours, encrypted, on 18', embedded, (server, to) => oursBackup(world, server, to)),
  ]
}

async function measureBackup(
  world: BenchWorld,
  o: { row: string; repeat: number; server: BenchServer; prepare: (directory: string) => Promise<Prepared> },
): Promise<BackupSample> {
  const { row, repeat, server, prepare } = o
  const directory = world.directory('memory')
  try {
    const { command, output, after } = await prepare(directory)
    // Each then has little to do for its own.
    await server.query('CHECKPOINT')
    const before = server.cpuSeconds()
    const spent = await measured(command, world.runAs).finally(after)
    return {
      section: 'backup',
      row,
      repeat,
      seconds: spent.seconds,
      megabytesPerSecond: server.megabytes / spent.seconds,
      outputMegabytes: bytesIn(output) / 1e6,
      clientCpuSeconds: spent.cpuSeconds,
      serverCpuSeconds: server.cpuSeconds() - before,
      peakMegabytes: spent.peakMegabytes,
      ...ownWords(row, spent.output),
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function baseBackup(server: BenchServer, directory: string, more: readonly string[]): Prepared {
  const output = join(directory, 'stored')
  const program = join(server.binaries.directory, 'pg_basebackup')
  const options = ['--no-password', '-F', 'tar', '-X', 'fetch', '-c', 'fast', '-D', output, ...more]
  return { command: [program, ...target(server), ...options], output }
}

function dump(world: BenchWorld, server: BenchServer, directory: string): Prepared {
  const output = join(directory, 'stored')
  makeDirectories(world, output)
  const program = join(server.binaries.directory, 'pg_dump')
  const script = 'set -o pipefail; "$@" | gzip > "$0"'
  const command = [
    '/bin/bash',
    '-c',
    script,
    join(output, 'dump.sql.gz'),
    program,
    ...target(server),
    'postgres',
  ]
  return { command, output }
}

export async function oursBackup(
  world: BenchWorld,
  server: BenchServer,
  directory: string,
): Promise<Prepared & { place: OursPlace }> {
  const output = join(directory, 'stored')
  const place = { home: join(directory, 'home'), repository: output }
  makeDirectories(world, place.home)
  const replication = server.node.connection({ user: 'moonyetis_replication', database: 'postgres' })
  const sql = server.node.connection({ user: superuserName, database: 'postgres' })
  const options: BackupOptions = { ...place, replication, sql }
  await run(ours('own-backup.ts', { ...options, prepare: true }), world.runAs)
  return { command: ours('own-backup.ts', options), output, place }
}

export function ours<T extends OursPlace>(script: string, options: T): readonly string[] {
  return [process.execPath, join(import.meta.dirname, script), JSON.stringify(options)]
}

/** What only we can tell of ourselves, and more exactly than a look from outside. */
export function ownWords(row: string, output: string): Partial<BackupSample> {
  if (!row.startsWith('ours')) return {}
  const { startSeconds, peakMegabytes }: OursResult = JSON.parse(output)
  return { startSeconds, peakMegabytes }
}

function target(server: BenchServer): string[] {
  const { host, port } = server.node.connection({ user: superuserName, database: 'postgres' })
  return ['-h', String(host), '-p', String(port), '-U', superuserName]
}

/** Of all files below it; links are not followed, as pgBackRest's `latest` is one. */
export function bytesIn(directory: string): number {
  if (!existsSync(directory)) return 0
  let bytes = 0
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) bytes += bytesIn(path)
    else if (entry.isFile()) bytes += statSync(path).size
  }
  return bytes
}
