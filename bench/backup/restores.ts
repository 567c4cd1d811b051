import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { superuserName } from '#postgres/server/access.ts'
import { type BackupSample, bytesIn, ours, oursBackup, ownWords, type Step } from './backups.ts'
import type { OursPlace } from './own-process.ts'
import type { RestoreOptions } from './own-restore.ts'
import { findPgbackrest, Pgbackrest } from './pgbackrest.ts'
import { measured, run } from './processes.ts'
import { type BenchServer, type BenchWorld, makeDirectories } from './world.ts'

/** Takes one backup of each kind, which is not measured, and gives the rows that restore them. */
export async function restoreSteps(world: BenchWorld): Promise<Step<BackupSample>[]> {
  const server = world.debian
  if (!server) return []
  const step = (row: string, command: (to: string) => readonly string[]): Step<BackupSample> => ({
    row,
    run: repeat => measureRestore(world, { row, repeat, server, command }),
  })
  const place = await oursSource(world, server)
  const { directory: bin } = server.binaries
  const own = (replay: boolean) => (to: string) =>
    ours<RestoreOptions>('own-restore.ts', { ...place, to, bin, replay })
  const steps = [step('ours, encrypted', own(false)), step('ours, encrypted, with replay', own(true))]
  if (!findPgbackrest()) return steps
  const encrypted = await pgbackrestSource(world, server, true)
  const plain = await pgbackrestSource(world, server, false)
  return [
    ...steps,
    step('pgBackRest zst-1, encrypted', to => encrypted.restore(join(to, 'data'))),
    step('pgBackRest zst-1', to => plain.restore(join(to, 'data'))),
    step('pgBackRest zst-1, encrypted, with replay', to => replayed(server, encrypted, to)),
  ]
}

async function oursSource(world: BenchWorld, server: BenchServer): Promise<OursPlace> {
  const { command, place } = await oursBackup(world, server, world.directory('memory'))
  await run(command, world.runAs)
  return place
}

async function pgbackrestSource(
  world: BenchWorld,
  server: BenchServer,
  encrypted: boolean,
): Promise<Pgbackrest> {
  const made = await Pgbackrest.create(world, server, { directory: world.directory('memory'), encrypted })
  await run(made.backup(), world.runAs).finally(() => made.detach())
  return made
}

async function measureRestore(
  world: BenchWorld,
  o: { row: string; repeat: number; server: BenchServer; command: (to: string) => readonly string[] },
): Promise<BackupSample> {
  const { row, repeat, server, command } = o
  const to = world.directory('memory')
  try {
    if (!row.startsWith('ours')) makeDirectories(world, join(to, 'data'))
    const spent = await measured(command(to), world.runAs)
    // The server that replays is nobody's child to be waited for.
    const isReplay = row.endsWith('replay')
    return {
      section: 'restore',
      row,
      repeat,
      seconds: spent.seconds,
      megabytesPerSecond: server.megabytes / spent.seconds,
      outputMegabytes: bytesIn(to) / 1e6,
      clientCpuSeconds: isReplay ? Number.NaN : spent.cpuSeconds,
      serverCpuSeconds: Number.NaN,
      peakMegabytes: isReplay ? Number.NaN : spent.peakMegabytes,
      ...ownWords(row, spent.output),
    }
  } finally {
    rmSync(to, { recursive: true, force: true })
  }
}

// Restores, starts, waits for the end of the recovery and stops in order, as ours does.
const replayScript = `set -e
data=$1 bin=$2 sockets=$3; shift 3
trap '"$bin/pg_ctl" -D "$data" -m immediate stop' TERM
"$@"
"$bin/pg_ctl" -D "$data" -w -s -l "$sockets/log" -o "-p 61433 -k '$sockets' -c listen_addresses='' -c logging_collector=off" start
until [ "$("$bin/psql" -h "$sockets" -p 61433 -U ${superuserName} -XAtc 'SELECT pg_is_in_recovery()' postgres)" = f ]
do sleep 0.02; done
"$bin/pg_ctl" -D "$data" -w -s -m fast stop`

function replayed(server: BenchServer, from: Pgbackrest, to: string): readonly string[] {
  const data = join(to, 'data')
  return ['/bin/bash', '-c', replayScript, 'bash', data, server.binaries.directory, to, ...from.restore(data)]
}
